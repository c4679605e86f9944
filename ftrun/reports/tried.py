"""A finished run in a comparison: its facts, its answers to the test rows, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftrun.reports.diagnosing.calibration import calibration
from ftrun.runs.run import Run
from ftrun.tasks.metrics.rescoring import scored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ftrun.reports.answers import Answered
    from ftrun.reports.comparison import Row
    from ftrun.reports.diagnosing.calibration import Calibration
    from ftrun.reports.diagnosing.diagnosis import Diagnosis
    from ftrun.tasks.metrics.rescoring import Array, Scored


@dataclass(eq=False)
class Tried:
    """A finished run with its answers to the test rows."""

    row: Row
    answered: Answered
    score: float
    left_out: Array  # the scores without each item in turn, (items,)
    result: dict[str, Any]  # of result.json what reports ask for
    diagnosis: Diagnosis
    parts: list[Tried] = field(default_factory=list)  # of folds or repeated splits, the run of each
    folds: list[int] | None = None  # and the fold or split of each item
    rows: list[int] | None = None  # of repeated splits, the number of each item's row
    ratio: float | None = None  # and the test rows of one for each of its other rows
    baseline: bool = False  # of the data card: nothing was trained
    defined: bool = True  # whether these rows have a score at all; see Scored

    @property
    def runs(self) -> list[Tried]:
        """The runs that were trained for it."""
        return self.parts or [self]

    @property
    def tests(self) -> dict[str, int]:
        """How many folds and splits it was tested in, of those that it has several of."""
        counts = {
            name: len({part.row[key] for part in self.parts})
            for name, key in (("folds", "fold"), ("splits", "split_seed"))
        }
        return {name: count for name, count in counts.items() if count > 1}

    @property
    def tested_rows(self) -> list[int]:
        """The number of each item's row, from 0."""
        return [*range(len(self.answered))] if self.rows is None else self.rows

    @property
    def labels(self) -> list[Any]:
        return self.answered.items.labels

    @property
    def answers(self) -> Sequence[Any]:
        return self.answered.answers

    @property
    def scored(self) -> Scored:
        """The numbers of each item, computed again: those of all runs would take much memory."""
        found = scored(self.row["metric"], self.labels, self.answers)
        assert found is not None, "its score was computed from these"
        return found

    @property
    def right(self) -> list[bool] | None:
        """Whether each answer is correct; None for answers that are neither correct nor wrong."""
        pairs = zip(self.labels, self.answers, strict=True)
        return [label == answer for label, answer in pairs] if self.answered.items.classes else None

    @property
    def calibration(self) -> Calibration | None:
        """From the probabilities of the answers; None of a baseline, and where they are not known."""
        sure, right = self.answered.probability, self.right
        return None if self.baseline or sure is None or right is None else calibration(sure, right)

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, which are read when they are to be drawn."""
        return [] if self.baseline else Run(self.row["run"]).metrics()
