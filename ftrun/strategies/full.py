"""Full fine-tuning: every weight trains (Devlin et al. 2019, BERT, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models import Model


@dataclass
class Full(Strategy):
    """Train every weight."""

    def prepare(self, model: Model) -> None:
        model.requires_grad_(True)
