"""Prefix tuning: keys and values in front of every layer's train, the network does not (Li & Liang 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.settings.checks import at_least
from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model


@dataclass
class Prefix(Strategy):
    """Train `tokens` keys and values for each block of attention, and the head.

    They train directly, as in P-tuning v2 (Liu et al. 2022), and not through a network that makes them.
    """

    pace: ClassVar[Pace] = Pace(rate=100.0, steps=1.5)  # their code takes 5e-3 and 1e-2 for BERT-large

    foldable: ClassVar[bool] = False  # no weight of the network does what a further key does

    tokens: int

    def __post_init__(self) -> None:
        at_least("strategy=prefix: tokens", self.tokens, 1)

    def fits(self, model: Model) -> None:
        from ftrun.models.adapted.beside import refuse_random
        from ftrun.models.adapted.prefixes import blocks_of

        refuse_random("prefix", model)
        blocks_of(model)

    def prepare(self, model: Model) -> None:
        from ftrun.models.adapted.beside import train
        from ftrun.models.adapted.prefixes import Prefixes

        train(model, Prefixes(self.tokens))
