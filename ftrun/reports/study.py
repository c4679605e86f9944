"""Studies: the runs of one set of settings over seeds, and how studies are tested in pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftrun.reports.comparison import Row
from ftrun.reports.diagnosis import Diagnosis
from ftrun.reports.significance import (
    ALPHA,
    Estimate,
    Runs,
    difference,
    estimate,
    holm,
    mcnemar,
    p_of,
)
from ftrun.tasks.metrics.metric import lookup
from ftrun.tasks.metrics.rescoring import Scored

if TYPE_CHECKING:
    from ftrun.reports.calibration import Calibration


@dataclass
class Tried:
    """A finished run with its answers to the test rows."""

    row: Row
    answered: list[dict[str, Any]]  # the lines of predictions.jsonl
    scored: Scored
    right: list[bool] | None  # None for answers that are neither correct nor wrong
    calibration: Calibration | None
    lines: list[dict[str, Any]]
    result: dict[str, Any]
    diagnosis: Diagnosis
    parts: list[Tried] = field(default_factory=list)  # of a cross-validation, the run of each fold
    folds: list[int] | None = None  # and the fold of each item

    @property
    def runs(self) -> list[Tried]:
        """The runs that were trained for it."""
        return self.parts or [self]

    baseline: bool = False  # of the data card: nothing was trained

    @property
    def labels(self) -> list[Any]:
        return [line["label"] for line in self.answered]

    @property
    def answers(self) -> list[Any]:
        return [line["answer"] for line in self.answered]


@dataclass
class Study:
    """One set of settings over its seeds."""

    name: str
    way: str  # the name without the number of training rows
    tried: list[Tried]
    runs: Runs
    score: Estimate
    facts: dict[str, float | None]  # means over the runs
    dominated_by: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        return self.tried[0].row["config"]

    @property
    def untaught(self) -> bool:
        """Whether none of its runs learned anything."""
        return all(each.diagnosis.untaught for each in self.tried)

    @property
    def baseline(self) -> bool:
        """Whether it is one of the data card, which fine-tuning must beat."""
        return self.tried[0].baseline


@dataclass
class Pair:
    """Two studies on the same items: their difference and its test."""

    first: Study
    second: Study
    found: Estimate  # first minus second
    test: str
    p: float
    corrected: float = 1.0

    @property
    def apart(self) -> bool:
        return self.corrected < ALPHA


@dataclass
class Group:
    """Studies that may be compared with each other."""

    task: str
    metric: str
    items: int
    studies: list[Study]
    pairs: list[Pair] = field(default_factory=list)

    @property
    def sign(self) -> int:
        """-1 where less is better."""
        return lookup(self.metric).sign

    @property
    def ways(self) -> list[Study]:
        """The studies of runs that were trained."""
        return [study for study in self.studies if not study.baseline]

    @property
    def best(self) -> Study:
        """The best of these."""
        return max(self.ways, key=lambda study: self.sign * study.score.value)


def studied(name: str, way: str, tried: list[Tried], draws: Any, facts: dict[str, float | None]) -> Study:
    """A study from its runs and their resamples, (count, runs)."""
    import numpy

    observed = numpy.array([each.scored.score for each in tried])
    left_out = numpy.stack([each.scored.left_out for each in tried], 1)
    runs = Runs([each.row["seed"] for each in tried], observed, draws, left_out)
    found = estimate(observed, draws, left_out)
    if lookup(tried[0].row["metric"]).is_share:
        found.low, found.high = max(found.low, 0.0), min(found.high, 1.0)
    return Study(name, way, tried, runs, found, facts)


def tested(pairs: list[tuple[Study, Study]]) -> list[Pair]:
    """The pairs with their p-values, corrected for the number of tests."""
    found = [compare(first, second) for first, second in pairs]
    for pair, corrected in zip(found, holm([pair.p for pair in found]), strict=True):
        pair.corrected = corrected
    return found


def compare(first: Study, second: Study) -> Pair:
    """McNemar's test for the accuracy of two runs, the paired bootstrap for any other score or more runs."""
    found = difference(first.runs, second.runs)
    one, other = first.tried[0], second.tried[0]
    if found.seeds_error is not None:
        return Pair(
            first, second, found, "paired bootstrap over examples with Student's t over seeds", p_of(found)
        )
    if one.row["metric"] == "accuracy" and one.right is not None and other.right is not None:
        hits = list(zip(one.right, other.right, strict=True))
        p = mcnemar(sum(a and not b for a, b in hits), sum(b and not a for a, b in hits))
        return Pair(first, second, found, "exact McNemar test", p)
    p = p_of(found, first.runs.draws[:, 0] - second.runs.draws[:, 0])
    return Pair(first, second, found, "paired bootstrap over examples", p)
