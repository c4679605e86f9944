"""How much a score varies over seeds: few runs of each way tell it, and so all ways of a family together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy

Array = Any  # numpy.ndarray of floats
ROUNDING = 1e-9  # relative; variances as near to each other are equal, an error as small is none
PRIOR = 4  # degrees of freedom that a way's variance over seeds borrows from the family
BLOCKED = 3  # ways with the same seeds, or
BLOCKS = 5  # seeds, from which on runs of equal seeds are compared seed by seed


@dataclass
class Runs:
    """The runs of one study, and their scores without each item in turn; items in the same order for all.

    With `folds` a run is the answers of all folds of a cross-validation or of all repeated splits, and
    `ratio` the test rows of one of them per other row, 1/(k-1) where it is None. With `rows` several items
    are of one row of the data. `fixed` has no chance of its own, such as a baseline that is counted and not
    trained.
    """

    seeds: list[int]
    observed: Array  # (runs,)
    left_out: Array  # (items, runs)
    folds: Array | None = None  # (items,), the number of each item's fold or split
    fixed: bool = False
    rows: Array | None = None  # (items,), the number of each item's row, from 0
    ratio: float | None = None

    @property
    def of_items(self) -> Array:
        """How far each item moves each run's score, (items, runs): of an accuracy, hit minus accuracy."""
        return (len(self.left_out) - 1) * (self.left_out.mean(0) - self.left_out)

    @property
    def influence(self) -> Array:
        """How far each row moves each run's score, (rows, runs)."""
        return self.by_row(self.of_items)

    def by_row(self, values: Array) -> Array:
        """The items' values, (items, …), as those of rows with the same mean, (rows, …).

        Items of one row are a cluster: their values are added up before anything is squared (Liang & Zeger
        1986).
        """
        if self.rows is None:
            return values
        sums = numpy.zeros((int(self.rows.max()) + 1, *values.shape[1:]))
        numpy.add.at(sums, self.rows, values)
        return sums * (len(sums) / len(values))

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the variance over seeds."""
        return 0 if self.fixed else len(self.seeds) - 1

    @cached_property
    def variance(self) -> float:
        """The variance of a run's score over seeds on these items, 0 with one."""
        return float(self.observed.var(ddof=1)) if self.freedom else 0.0

    @cached_property
    def noise(self) -> float:
        """The part of it that comes from single items, MS_rest / items, which more items would remove."""
        if not self.freedom:
            return 0.0
        moved = self.influence
        rest, items = moved - moved.mean(1, keepdims=True), len(moved)
        return float((rest**2).sum()) / self.freedom / max(1, items - 1) / items

    @cached_property
    def places(self) -> dict[int, int]:
        """The place of each seed."""
        return {seed: place for place, seed in enumerate(self.seeds)}

    def minus(self, other: Runs) -> Runs:
        """The differences of runs of equal seeds."""
        order = [other.places[seed] for seed in self.seeds]
        left_out = self.left_out - other.left_out[:, order]
        return replace(self, observed=self.observed - other.observed[order], left_out=left_out, fixed=False)


class Family:
    """Ways whose spread over seeds is told together; what all their comparisons need is computed once."""

    def __init__(self, ways: Sequence[Runs]) -> None:
        self.several = [runs for runs in ways if runs.freedom]
        self.freedom = sum(runs.freedom for runs in self.several)
        self._of_seeds: dict[frozenset[int], list[Runs]] = {}
        for runs in ways:
            if not runs.fixed:
                self._of_seeds.setdefault(frozenset(runs.seeds), []).append(runs)
        self._variances: dict[tuple[int, ...], float] = {}

    def pooled(self, values: Sequence[float]) -> float:
        """The mean over the ways with several seeds, weighted by their degrees of freedom."""
        pairs = zip(self.several, values, strict=True)
        return sum(runs.freedom * value for runs, value in pairs) / self.freedom

    @cached_property
    def variance(self) -> float:
        """Of a run's score over seeds."""
        return self.pooled([runs.variance for runs in self.several])

    @cached_property
    def noise(self) -> float:
        """The part of it that comes from single items."""
        return self.pooled([runs.noise for runs in self.several])

    def block(self, seeds: Sequence[int]) -> int:
        """How many ways have exactly these seeds."""
        return len(self._of_seeds.get(frozenset(seeds), ()))

    def variance_of_differences(self, seeds: Sequence[int]) -> float:
        """Of two ways with these seeds, seed by seed, from all ways that have them."""
        key = tuple(seeds)
        if key not in self._variances:
            block = self._of_seeds[frozenset(seeds)]
            scores = numpy.stack([runs.observed[[runs.places[seed] for seed in seeds]] for runs in block])
            rest = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
            freedom = (len(block) - 1) * (len(seeds) - 1)
            self._variances[key] = 2 * float((rest**2).sum()) / freedom
        return self._variances[key]


class Varied(NamedTuple):
    """The variance of a mean over runs, or of the difference of two, that comes from the seeds."""

    told: float  # the variance that few runs tell
    beyond: float  # what of it single items do not explain, so that it stays with infinitely many of them
    noise: float  # the variance from how a run answers single items, which the items tell well
    freedom: float  # degrees of freedom of `told`


def varied(ways: Sequence[Runs], family: Family) -> Varied | None:
    """Of one way or of the difference of two; None where no way of the family tells it.

    A seed decides the order of the batches and which rows a subset has, so runs of one seed fail together.
    With enough ways or seeds they are blocks: the variance is that of the differences (Fisher 1935), of
    (ways - 1) · (seeds - 1) degrees of freedom. With fewer those of ways · (seeds - 1) are worth more, and
    only the noise of single items, which is known well, is taken from the differences.
    """
    trained = [runs for runs in ways if not runs.fixed]
    if not trained:
        return Varied(0.0, 0.0, 0.0, 1)
    seeds = {*trained[0].seeds}
    paired = len(trained) == 2 and trained[0].freedom > 0 and {*trained[1].seeds} == seeds
    both = trained[0].minus(trained[1]) if paired else None
    if both is not None and (family.block(both.seeds) >= BLOCKED or len(seeds) >= BLOCKS):
        return _blocked(both, family)
    if not family.freedom:
        return None
    told = known = 0.0
    for runs in trained:
        noise = runs.noise if runs.freedom else family.noise
        told += max(shrunk(runs, family.variance), noise) / len(runs.seeds)
        known += noise / len(runs.seeds)
    noise = both.noise / len(seeds) if both is not None else known
    freedom = min(family.freedom, PRIOR + sum(runs.freedom for runs in trained))
    return Varied(told, beyond(told, known), noise, freedom)


def _blocked(both: Runs, family: Family) -> Varied:
    count, noise = len(both.seeds), both.noise
    told = max(shrunk(both, family.variance_of_differences(both.seeds)), noise)
    freedom = min((family.block(both.seeds) - 1) * both.freedom, PRIOR + both.freedom)
    return Varied(told / count, beyond(told, noise) / count, noise / count, freedom)


def beyond(told: float, noise: float) -> float:
    """What of a variance the noise of items does not explain; 0 where they are equal but for rounding."""
    return 0.0 if math.isclose(told, noise, rel_tol=ROUNDING) else told - noise


def shrunk(runs: Runs, pooled: float) -> float:
    """A variance over seeds, drawn towards the pooled one with `PRIOR` degrees of freedom (Smyth 2004).

    Two or three seeds tell a variance badly, and a handful of ways cannot tell Smyth's degrees of freedom.
    His estimator gives 4.6 for the twelve pretrained strategies of three seeds in scripts/bench/RESULTS.md.
    A way whose own variance is the larger one keeps it.
    """
    return max((PRIOR * pooled + runs.freedom * runs.variance) / (PRIOR + runs.freedom), runs.variance)
