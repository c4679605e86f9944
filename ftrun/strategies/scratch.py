"""No transfer: the same network learns from random weights, the control of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model


@dataclass
class Scratch(Strategy):
    """Train every weight; the strategy's YAML sets `model.init` to random."""

    starts_random: ClassVar[bool] = True

    def prepare(self, model: Model) -> None:
        model.requires_grad_(True)
