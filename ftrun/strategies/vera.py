"""VeRA: vectors scale one pair of random matrices that all layers share (Kopiczko et al. 2024; by peft)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.settings.checks import above
from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy
from ftrun.strategies.lora import checked

if TYPE_CHECKING:
    from ftrun.models.model import Model

KEYS = 2**31  # of peft's generator of the matrices


@dataclass
class Vera(Strategy):
    """h = W₀x + b ∘ B(d ∘ Ax): the vectors b and d of each layer train, the matrices A and B never.

    b starts at zero and every entry of d at `d_initial`; A and B are drawn from the seed and saved.
    """

    pace: ClassVar[Pace] = Pace(rate=100.0, steps=1.5)  # their table 8: 10 times the rate of LoRA

    rank: int
    d_initial: float
    dropout: float
    targets: str | list[str]

    def __post_init__(self) -> None:
        above("strategy=vera: d_initial", self.d_initial, 0)
        self.targets = checked("vera", self.rank, self.dropout, self.targets)

    def fits(self, model: Model) -> None:
        self.layers(model)

    def layers(self, model: Model) -> list[str]:
        """The names within `net` of the layers that get vectors; ConfigError where there are none."""
        from ftrun.models.layers import adapted_layers

        return adapted_layers(model, self.targets, linear=True, strategy="vera")

    def prepare(self, model: Model) -> None:
        import torch
        from peft import VeraConfig

        from ftrun.models.adapted.updates import inject
        from ftrun.models.layers import transposed

        config = VeraConfig(
            r=self.rank,
            d_initial=self.d_initial,
            vera_dropout=self.dropout,
            target_modules=self.layers(model),
            fan_in_fan_out=transposed(model),
            projection_prng_key=torch.initial_seed() % KEYS,
        )
        inject(model, config)
