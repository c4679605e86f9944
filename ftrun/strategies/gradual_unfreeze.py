"""Gradual unfreezing: the head first, then one stage after another (Howard & Ruder 2018, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError, counted
from ftrun.settings.checks import above, one_of
from ftrun.strategies.full import Full

if TYPE_CHECKING:
    from ftrun.settings.schedules import Course

RAMP = 10  # steps in which an opened stage comes to its rate: Adam's first ones ignore the gradient's size


@dataclass
class GradualUnfreeze(Full):
    """Stage s of the run trains the head and the s stages next to it; in the end everything trains.

    Every weight is in the optimizer from the start, so that the moments of the open stages are kept.
    """

    every: float  # epochs between two openings; below 1 a share of the run
    from_: str  # top: the layer under the head opens first; bottom: the embeddings do

    def __post_init__(self) -> None:
        above("every", self.every, 0)
        one_of("from", self.from_, ["top", "bottom"])

    def interval(self, course: Course) -> int:
        """Optimizer steps between two openings; ConfigError when the run ends before the first."""
        length = course.length
        steps = max(1, round(self.every * (length.total if self.every < 1 else length.per_epoch)))
        if steps >= length.total:
            raise ConfigError(
                f"strategy=gradual_unfreeze: every={self.every:g} opens nothing but the head in a run of "
                f"{counted(length.total, 'step')}; give a share of the run below 1, such as every=0.1"
            )
        return steps

    def opens(self, stage: int, course: Course) -> int:
        head = course.depth + 1
        if stage == head:
            return 0
        turn = head - stage if self.from_ == "top" else stage + 1
        return turn * self.interval(course)

    def rate(self, stage: int, step: int, course: Course) -> float:
        since = step - self.opens(stage, course)
        ramp = min(RAMP, self.interval(course)) if stage <= course.depth else 0
        return course.rate(step) * (min(1.0, (since + 1) / (ramp + 1)))
