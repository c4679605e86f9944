"""Studies: the runs of one set of settings over seeds, and how studies are tested in pairs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftrun.reports.comparison import Row
from ftrun.reports.diagnosing.diagnosis import Diagnosis
from ftrun.reports.naming import flat
from ftrun.reports.statistics.seeds import Runs
from ftrun.reports.statistics.significance import (
    ALPHA,
    Estimate,
    difference,
    estimate,
    holm,
    p_of,
)
from ftrun.tasks.metrics.metric import lookup
from ftrun.tasks.metrics.rescoring import Scored

if TYPE_CHECKING:
    from ftrun.reports.diagnosing.calibration import Calibration


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
    parts: list[Tried] = field(default_factory=list)  # of folds or repeated splits, the run of each
    folds: list[int] | None = None  # and the fold or split of each item
    rows: list[int] | None = None  # of repeated splits, the number of each item's row
    ratio: float | None = None  # and the test rows of one for each of its other rows

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

    @cached_property
    def flat_config(self) -> dict[str, Any]:
        """The same with dotted names."""
        return flat(self.config)

    @property
    def trained(self) -> list[Tried]:
        """All its runs, those of each fold by itself."""
        return [run for each in self.tried for run in each.runs]

    @property
    def untaught(self) -> bool:
        """Whether none of its runs learned anything."""
        return all(run.diagnosis.untaught for run in self.trained)

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

    @property
    def of_runs(self) -> bool:
        """Whether only two runs are told apart, since no study tells the spread over seeds or folds."""
        return self.found.seeds_error is None and self.found.split_error is None


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


def studied(name: str, way: str, tried: list[Tried], facts: dict[str, float | None]) -> Study:
    """A study from its runs, its score's interval from these alone; see `pool_seeds`.

    A baseline that is the same for all seeds has no chance but that of the items.
    """
    import numpy

    runs = Runs(
        [each.row["seed"] for each in tried],
        numpy.array([each.scored.score for each in tried]),
        numpy.stack([each.scored.left_out for each in tried], 1),
        None if len({*(tried[0].folds or [])}) < 2 else numpy.array(tried[0].folds),
        fixed=tried[0].baseline and len(tried) == 1,
        rows=None if tried[0].rows is None else numpy.unique(tried[0].rows, return_inverse=True)[1],
        ratio=tried[0].ratio,
    )
    return Study(name, way, tried, runs, estimate(runs, share=lookup(tried[0].row["metric"]).is_share), facts)


def pool_seeds(studies: list[Study]) -> None:
    """Estimate each score again, with the spread over seeds that studies of equal labels have together."""
    for like in of_equal_labels(studies):
        family = [study.runs for study in like]
        for study in like:
            share = lookup(study.tried[0].row["metric"]).is_share
            study.score = estimate(study.runs, family, share)


def of_equal_labels(studies: list[Study]) -> list[list[Study]]:
    """The studies in groups that were trained on equally many labels."""
    found: dict[str, list[Study]] = {}
    for study in studies:
        found.setdefault(str(study.config["task"].get("subset")), []).append(study)
    return [*found.values()]


def tested(pairs: list[tuple[Study, Study]]) -> list[Pair]:
    """The pairs with their p-values, corrected for the number of tests.

    The spread over seeds is pooled over all studies that the pairs join, directly or through others.
    """
    found = [compare(first, second, _joined(first, pairs)) for first, second in pairs]
    for pair, corrected in zip(found, holm([pair.p for pair in found]), strict=True):
        pair.corrected = corrected
    return found


def _joined(study: Study, pairs: list[tuple[Study, Study]]) -> list[Study]:
    found = {id(study): study}
    while True:
        reached = [pair for pair in pairs if any(id(each) in found for each in pair)]
        wider = {id(each): each for pair in reached for each in pair}
        if len(wider) == len(found):
            return [*found.values()]
        found = wider


def compare(first: Study, second: Study, family: list[Study]) -> Pair:
    """The t test of two studies over test examples, and over seeds where one of the family has several."""
    found = difference(first.runs, second.runs, [study.runs for study in family])
    splits = " and ".join(name for each in first.tried[:1] for name in each.tests)
    parts = {"test examples": 0.0, "seeds": found.seeds_error, splits: found.split_error}
    over = " and ".join(name for name, error in parts.items() if error is not None)
    return Pair(first, second, found, f"paired t test over {over}", p_of(found))


def mean_of(values: list[Any]) -> float | None:
    """The mean; None where a value is not known, or there is none."""
    return statistics.fmean(values) if values and None not in values else None
