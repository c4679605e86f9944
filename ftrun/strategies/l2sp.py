"""L2-SP: weights are pulled to where they started, the new head to zero (Li et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.settings.checks import at_least
from ftrun.strategies.anchored import Anchored, Left

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.strategies.anchored import Strengths
    from ftrun.strategies.base import Memory


@dataclass
class L2sp(Anchored):
    """alpha/2 · |w − w₀|² on what the checkpoint brought, beta/2 · |w|² on the new head (Li et al. 2018).

    Both as proximal steps, or in the loss as published. The reference code's defaults are 0.01 and 0.01.
    alpha=auto is found from the learning rates of the run; see `ftrun.strategies.strength`.
    """

    alpha: float | str
    beta: float
    apply: str

    strength: ClassVar[str] = "alpha"
    left: ClassVar[Left] = Left(adaptive=0.5, plain=0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("beta", self.beta, 0)

    def asked(self) -> float | str:
        return self.alpha

    def strengths(self, memory: Memory, names: list[str]) -> tuple[Strengths, dict[str, Tensor]]:
        return dict.fromkeys(names, self.factor), {}

    def head_strength(self) -> float:
        return self.beta
