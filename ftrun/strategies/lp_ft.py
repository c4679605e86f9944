"""LP-FT: a linear probe first, then full fine-tuning from its head (Kumar et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError
from ftrun.settings.checks import above
from ftrun.strategies.full import Full

if TYPE_CHECKING:
    from ftrun.settings.schedules import Course


@dataclass
class LpFt(Full):
    """The head alone for a share of the run, with its own rate and a schedule down to zero; then everything.

    Features are not distorted by the gradients of a random head: one point better than full fine-tuning in
    distribution, ten out of distribution (Kumar et al. 2022). Both parts run through the whole schedule; a
    pretrained pooler counts as part of the head.
    """

    needs_new_head: ClassVar[bool] = True

    probe: float  # share of the run
    probe_lr: float

    def __post_init__(self) -> None:
        above("probe_lr", self.probe_lr, 0)
        if not 0 < self.probe < 1:
            raise ConfigError(f"probe is a share of the run above 0 and below 1, not {self.probe:g}")

    def probing(self, course: Course) -> int:
        """Optimizer steps of the first part."""
        return max(1, round(self.probe * course.length.total))

    def opens(self, stage: int, course: Course) -> int:
        return 0 if stage > course.depth else self.probing(course)

    def rate(self, stage: int, step: int, course: Course) -> float:
        steps, length = self.probing(course), course.length
        first = step < steps
        total = steps if first else length.total - steps
        share = total / length.total
        part = replace(length, total=total, warmup=round(length.warmup * share))
        lr = self.probe_lr if first else course.lr
        return replace(course, lr=lr, length=part).rate(step if first else step - steps)

    def rate_by_stage(self) -> bool:
        return False
