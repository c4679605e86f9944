"""Studies: the runs of one set of settings over seeds, and how studies are tested in pairs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftrun.reports.statistics.seeds import Family, Runs
from ftrun.reports.statistics.significance import (
    ALPHA,
    Estimate,
    difference,
    estimate,
    holm,
    p_of,
)
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from ftrun.reports.tried import Tried


BEFORE = ("source", "pretrain", "compose")  # settings by which a network is made before it is trained


@dataclass(eq=False)
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
    def trained(self) -> list[Tried]:
        """All its runs, those of each fold by itself."""
        return [run for each in self.tried for run in each.runs]

    @property
    def untaught(self) -> bool:
        """Whether none of its runs learned anything."""
        return all(run.diagnosis.untaught for run in self.trained)

    @property
    def defined(self) -> bool:
        """Whether each of its runs has a score on these rows."""
        return all(each.defined for each in self.tried)

    @property
    def baseline(self) -> bool:
        """Whether it is one of the data card, which fine-tuning must beat."""
        return self.tried[0].baseline


@dataclass(eq=False)
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


@dataclass(eq=False)
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
        """The best of these that learned something, where one did."""
        return max(self.ways, key=lambda study: (not study.untaught, self.sign * study.score.value))

    @cached_property
    def _tested(self) -> dict[frozenset[int], Pair]:
        return {frozenset((id(pair.first), id(pair.second))): pair for pair in reversed(self.pairs)}

    def pair(self, first: Study, second: Study) -> Pair | None:
        """The test of two studies against each other, if there was one; `pairs` have been set before."""
        return self._tested.get(frozenset((id(first), id(second))))


def studied(name: str, way: str, tried: list[Tried], facts: dict[str, float | None]) -> Study:
    """A study from its runs, its score's interval from these alone; see `pool_seeds`.

    What is the same for all seeds has no chance but that of the items: a baseline, and see `same_for_all`.
    """
    import numpy

    runs = Runs(
        [each.row["seed"] for each in tried],
        numpy.array([each.score for each in tried]),
        numpy.stack([each.left_out for each in tried], 1),
        None if len({*(tried[0].folds or [])}) < 2 else numpy.array(tried[0].folds),
        fixed=(tried[0].baseline and len(tried) == 1) or same_for_all(tried),
        rows=None if tried[0].rows is None else numpy.unique(tried[0].rows, return_inverse=True)[1],
        ratio=tried[0].ratio,
    )
    metric = lookup(tried[0].row["metric"])
    return Study(name, way, tried, runs, estimate(runs, share=metric.is_share, ends=metric.ends), facts)


def same_for_all(tried: list[Tried]) -> bool:
    """Whether seeds decide nothing of this: its heads were solved for, and gave the same answers for several.

    Of one seed, where neither its rows nor its network's weights are drawn. Equal answers alone do not say
    it: training that fails may fail alike with two seeds and not with a third.
    """
    if any(run.row.get("l2") is None for each in tried for run in each.runs):
        return False
    if len(tried) > 1:
        return all(each.answers == tried[0].answers for each in tried[1:])
    config = tried[0].row["config"]
    chosen = [config.get("sequence"), *(value for name in BEFORE for value in config.get(name, {}).values())]
    given = config["model"].get("init") == "pretrained" and all(value in (None, "none") for value in chosen)
    return given and config["task"].get("subset") is None


def pool_seeds(studies: list[Study]) -> None:
    """Estimate each score again, with the spread over seeds that studies of equal labels have together."""
    for like in of_equal_labels(studies):
        family = Family([study.runs for study in like])
        for study in like:
            metric = lookup(study.tried[0].row["metric"])
            study.score = estimate(study.runs, family, metric.is_share, metric.ends)


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
    families = _families(pairs)
    found = [compare(first, second, families[id(first)]) for first, second in pairs]
    for pair, corrected in zip(found, holm([pair.p for pair in found]), strict=True):
        pair.corrected = corrected
    return found


def _families(pairs: list[tuple[Study, Study]]) -> dict[int, Family]:
    """By the id of each study: all studies that pairs join it with, directly or through others."""
    joined: dict[int, list[Study]] = {}
    for pair in pairs:
        one, other = (joined.setdefault(id(each), [each]) for each in pair)
        if one is not other:
            few, many = sorted((one, other), key=len)
            many += few
            joined |= dict.fromkeys(map(id, few), many)
    families = {id(own): own for own in joined.values()}
    order = {each: place for place, each in enumerate(joined)}
    known = {
        name: Family([each.runs for each in sorted(own, key=lambda study: order[id(study)])])
        for name, own in families.items()
    }
    return {each: known[id(own)] for each, own in joined.items()}


def compare(first: Study, second: Study, family: Family) -> Pair:
    """The t test of two studies over test examples, and over seeds where one of the family has several."""
    found = difference(first.runs, second.runs, family)
    splits = " and ".join(name for each in first.tried[:1] for name in each.tests)
    parts = {"test examples": 0.0, "seeds": found.seeds_error, splits: found.split_error}
    over = " and ".join(name for name, error in parts.items() if error is not None)
    return Pair(first, second, found, f"paired t test over {over}", p_of(found))


def mean_of(values: list[Any]) -> float | None:
    """The mean; None where a value is not known, or there is none."""
    return statistics.fmean(values) if values and None not in values else None
