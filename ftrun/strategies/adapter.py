"""Bottleneck adapters: small layers inside the frozen network learn (Houlsby et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError
from ftrun.settings.checks import one_of
from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model


@dataclass
class Adapter(Strategy):
    """Train adapters and the head; with placement=houlsby the normalisation layers too, as in that paper."""

    pace: ClassVar[Pace] = Pace(rate=10.0, steps=1.5)  # 3e-4 for BERT-base in the code of Houlsby et al. 2019

    foldable: ClassVar[bool] = False  # there is a non-linearity between its matrices

    placement: str
    bottleneck: int
    activation: str

    def __post_init__(self) -> None:
        one_of("strategy=adapter: placement", self.placement, ["houlsby", "pfeiffer"])
        one_of("strategy=adapter: activation", self.activation, ["gelu", "relu", "tanh", "silu"])
        if self.bottleneck < 1:
            raise ConfigError(f"strategy=adapter: bottleneck is at least 1, not {self.bottleneck}")

    def fits(self, model: Model) -> None:
        if model.source is None:
            raise ConfigError("strategy=adapter keeps a pretrained network, but model.init=random has none")
        from ftrun.models.layers import output_layers

        output_layers(model, self.placement)

    def prepare(self, model: Model) -> None:
        from ftrun.models.adapted.beside import train
        from ftrun.models.adapters import Adapters

        adapters = Adapters(self.placement, self.bottleneck, self.activation)
        train(model, adapters, frozenset(model.norms() if self.placement == "houlsby" else ()))
