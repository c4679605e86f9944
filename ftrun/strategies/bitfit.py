"""BitFit: only the biases and the head learn (Ben Zaken et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError
from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model


@dataclass
class Bitfit(Strategy):
    """Train every bias, those of the normalisation layers included, and the head."""

    pace: ClassVar[Pace] = Pace(rate=20.0, steps=1.5)  # their code: 1e-3 for BERT-base

    def fits(self, model: Model) -> None:
        head = {name for name, _ in model.head_parameters()}
        if not biases(model) - head:
            raise ConfigError(
                f"strategy=bitfit trains biases, but {model.name} has none below its head;"
                " possible: strategy=norms, strategy=lora"
            )

    def prepare(self, model: Model) -> None:
        trained = biases(model) | {name for name, _ in model.head_parameters()}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)


def biases(model: Model) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.endswith(".bias")}
