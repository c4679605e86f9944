"""Norm tuning: only the normalisation layers and the head learn (Lu et al. 2021; Frankle et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError
from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model


@dataclass
class Norms(Strategy):
    """Train the weights and biases of every normalisation layer, and the head."""

    pace: ClassVar[Pace] = Pace(rate=20.0, steps=1.5)  # as bitfit; Lu et al. 2021 use 1e-3

    def fits(self, model: Model) -> None:
        if not model.norms() - {name for name, _ in model.head_parameters()}:
            raise ConfigError(
                f"strategy=norms trains normalisation layers, but {model.name} has none with weights"
                " below its head"
            )

    def prepare(self, model: Model) -> None:
        trained = model.norms() | {name for name, _ in model.head_parameters()}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
