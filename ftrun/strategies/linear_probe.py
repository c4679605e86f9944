"""Linear probe: only the head learns, on the backbone's features as they came (Alain & Bengio 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model


@dataclass
class LinearProbe(Strategy):
    """Train what the checkpoint did not bring: the head, and nothing that was pretrained."""

    pace: ClassVar[Pace] = Pace(fixed_rate=1e-2, steps=2.0)  # a linear layer on fixed features

    needs_new_head: ClassVar[bool] = True

    def prepare(self, model: Model) -> None:
        model.requires_grad_(False)
        for _, parameter in model.head_parameters():
            parameter.requires_grad_(True)
