"""Full fine-tuning: every weight trains (Devlin et al. 2019, BERT, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from ftrun.strategies.base import Strategy


@dataclass
class Full(Strategy):
    """Train every weight."""
