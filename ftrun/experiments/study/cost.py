"""What a run costs, by what was measured of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.settings.schedules import Length

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings


@dataclass(frozen=True)
class Line:
    """Seconds as a line in the padded tokens of a batch."""

    fixed: float
    each: float  # per token

    @classmethod
    def through(cls, widths: Sequence[int], seconds: Sequence[float]) -> Line:
        """The least-squares line that neither falls nor begins below zero."""
        mean, level = sum(widths) / len(widths), sum(seconds) / len(seconds)
        spread = sum((width - mean) ** 2 for width in widths)
        if not spread:
            return cls(level, 0.0)
        pairs = zip(widths, seconds, strict=True)
        slope = max(sum((width - mean) * (second - level) for width, second in pairs) / spread, 0.0)
        slope = min(slope, level / mean)
        return cls(level - slope * mean, slope)

    def of(self, widths: Sequence[int]) -> float:
        """The seconds of all these batches."""
        return self.fixed * len(widths) + self.each * sum(widths)


@dataclass(frozen=True)
class Cost:
    """What one run costs; all in seconds, but memory and disk, which are bytes."""

    start: float  # loading and checking
    train: float  # all steps; fewer where patience ends the run early
    evaluate: float  # scoring and saving on the way
    end: float  # closing scores and the saved model
    features: float  # the baseline of the frozen network's features, which a process computes once
    memory: int | None  # as cost.json has it; None where it cannot be measured
    disk: int

    @property
    def seconds(self) -> float:
        return self.start + self.train + self.evaluate + self.end


@dataclass(frozen=True)
class Timing:
    """What was measured of one kind of run, before it is scaled to a number of steps; in seconds."""

    start: float
    phases: list[tuple[int, float]]  # the step from which stages train, and its time by that of a late one
    batch: float  # the mean of an epoch's batches
    rows: int  # of an epoch
    splits: dict[str, float]  # scoring each of them, of train SEEN rows at most
    saving: float
    export: float
    passes: float  # training and validation rows once
    features: float
    memory: int | None
    disk: int

    def cost(self, settings: Settings) -> Cost:
        """The cost of a run of these settings, with numbers for `auto`."""
        closing = self.splits["test"] + self.splits["train"] + self.export
        if settings.strategy.solved:
            own = max(0.0, self.passes - self.features)  # the baseline's are kept
            return Cost(self.start, own, self.saving, closing, self.features, self.memory, self.disk)
        length = Length.of(settings.train, self.rows)
        ends = [*(begin for begin, _ in self.phases[1:]), length.total]
        steps = sum(
            max(0, min(end, length.total) - begin) * ratio
            for (begin, ratio), end in zip(self.phases, ends, strict=True)
        )
        on_the_way = length.evaluations * (self.splits["validation"] + self.saving)
        return Cost(
            self.start, self.batch * steps, on_the_way, closing, self.features, self.memory, self.disk
        )
