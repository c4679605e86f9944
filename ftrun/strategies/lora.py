"""LoRA: a low-rank update trains next to each target layer (Hu et al. 2021; layers by peft)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.errors import ConfigError
from ftrun.settings.checks import above, at_least, one_of
from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings

VARIANTS = ("lora", "lora_plus", "dora", "rslora", "pissa")
TARGET_WORDS = ("attention", "all")


def checked(strategy: str, rank: int, dropout: float, targets: str | list[str]) -> str | list[str]:
    """The targets, a single name as a list; ConfigError for what layers of low rank cannot be."""
    at_least(f"strategy={strategy}: rank", rank, 1)
    if not 0 <= dropout < 1:
        raise ConfigError(f"strategy={strategy}: dropout is at least 0 and below 1, not {dropout}")
    if isinstance(targets, str) and targets not in TARGET_WORDS:
        return [targets]
    if not targets:
        raise ConfigError(
            f"strategy={strategy}: targets is empty; use attention, all or names such as [query,value]"
        )
    return targets


@dataclass
class Lora(Strategy):
    """h = W₀x + (alpha/rank)·B·A·x with W₀ frozen; rslora divides by √rank, dora and pissa as published.

    lora_plus gives B `ratio` times the rate that A and the head have (Hayou et al. 2024: 2⁴ for RoBERTa).
    """

    on_rounded: ClassVar[bool] = True
    pace: ClassVar[Pace] = Pace(rate=10.0, steps=1.5)  # Schulman et al. 2025, at any rank

    rank: int
    alpha: float
    dropout: float
    targets: str | list[str]
    variant: str
    ratio: float

    def __post_init__(self) -> None:
        self.targets = checked("lora", self.rank, self.dropout, self.targets)
        above("strategy=lora: alpha", self.alpha, 0)
        if self.variant == "vera":
            raise ConfigError("variant=vera: VeRA has settings of its own; possible: strategy=vera")
        one_of("strategy=lora: variant", self.variant, VARIANTS)
        above("strategy=lora: ratio", self.ratio, 0)

    def paced(self) -> Pace:
        """Of lora_plus, the rate whose geometric mean over A and B is that of lora."""
        return replace(self.pace, rate=self.pace.rate / self.ratio**0.5) if self.plus else self.pace

    @property
    def plus(self) -> bool:
        return self.variant == "lora_plus"

    def scale(self, name: str) -> float:
        return self.ratio if self.plus and ".lora_B." in name else 1.0

    def check(self, settings: Settings) -> None:
        if self.variant == "pissa" and settings.model.rounded:
            raise ConfigError(
                f"variant=pissa splits the weights, of which model.load={settings.model.load} has few bits;"
                " possible: variant=lora, lora_plus, rslora, dora"
            )

    def fits(self, model: Model) -> None:
        self.layers(model)

    def chosen(self, settings: Settings, model: Model) -> tuple[dict[str, Any], str]:
        """Nothing is chosen, but said where targets=attention means every layer."""
        from ftrun.models.layers import has_attention

        if self.targets != "attention" or has_attention(model):
            return {}, ""
        return {}, f"targets=attention: {model.name} has no attention, so every layer is a target"

    def layers(self, model: Model) -> list[str]:
        """The names within `net` of the layers that get an update; ConfigError where there are none."""
        from ftrun.models.layers import adapted_layers

        return adapted_layers(model, self.targets, linear=self.variant == "pissa")  # which splits matrices

    def prepare(self, model: Model) -> None:
        from peft import LoraConfig

        from ftrun.models.adapted.updates import inject
        from ftrun.models.layers import transposed

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.layers(model),
            use_dora=self.variant == "dora",
            use_rslora=self.variant == "rslora",
            fan_in_fan_out=transposed(model),
            init_lora_weights="pissa" if self.variant == "pissa" else True,
        )
        inject(model, config)
