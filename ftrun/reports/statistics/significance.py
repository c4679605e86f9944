"""What a finite test set and a few seeds allow to say: intervals, tests, and what would decide.

Chance enters three times: which items the test set holds, which seed a run had, and how this run answers
this item. The score's influence values (jackknife, Miller 1974) make a table of items and seeds of any
metric, and its two-way random-effects decomposition (Searle, Casella & McCulloch 1992, chapter 4) counts
each of the three once: (MS_items + MS_seeds - MS_rest) / (items · seeds). Interval and p-value are of one
Student's t with Satterthwaite's (1946) degrees of freedom, so they never contradict each other. Those of a
sum are never fewer than of its parts; as here one part is subtracted, that is held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from ftrun.reports.statistics.seeds import ROUNDING, Family, Runs, Varied, varied

Array = Any  # numpy.ndarray of floats
ALPHA = 0.05
POWER = 0.8
EQUAL = 1e-6  # relative; scores as near to each other are of answers that differ by the rounding of fp32


@dataclass
class Estimate:
    """A score or a difference with its interval and the parts of its standard error."""

    value: float
    low: float
    high: float
    items_error: float  # from the finite test set
    seeds_error: float | None  # from the seeds; None with one seed everywhere, where nothing tells it
    freedom: float  # degrees of freedom of the interval
    unsure_error: float = 0.0  # the part that only the seeds tell, seeds_error and the noise of their runs
    seeds_freedom: float = math.inf  # degrees of freedom of it
    split_error: float | None = None  # from the training rows of cross-validation

    @property
    def error(self) -> float:
        """The standard error of the value."""
        return math.hypot(self.items_error, self.seeds_error or 0.0, self.split_error or 0.0)


def estimate(
    runs: Runs,
    family: Family | Sequence[Runs] = (),
    share: bool = False,
    ends: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """The mean score of the runs; of a share of 1 with Wilson's (1927) interval, of others within `ends`.

    Its number of items is the effective one, value · (1 - value) / error² (Franco et al. 2019), all of them
    where they say the same, as of an F1, and its quantile Student's. `family` are the ways whose spread over
    seeds is pooled.
    """
    effect = runs.of_items.mean(1)
    found = _estimate(float(runs.observed.mean()), effect, 0.0, [runs], family or [runs])
    if share and 0 <= found.value <= 1:
        q = quantile(found.freedom)
        whole = found.value * (1 - found.value)
        items = whole / found.error**2 if whole and found.error > ROUNDING else len(runs.influence)
        middle = (found.value + q**2 / items / 2) / (1 + q**2 / items)
        reach = q * math.sqrt(whole / items + (q / items / 2) ** 2) / (1 + q**2 / items)
        found.low, found.high, ends = middle - reach, middle + reach, (0.0, 1.0)
    found.low = min(found.value, max(ends[0], found.low))  # of a share of 1 but for rounding
    found.high = max(found.value, min(ends[1], found.high))
    return found


def difference(first: Runs, second: Runs, family: Family | Sequence[Runs] = ()) -> Estimate:
    """First minus second on the same items; runs of equal seeds are paired item by item.

    The items' variance has one row more, as different as the most different one and for neither side
    (Agresti & Min 2005), without which few items that differ make too narrow an interval. Scores that are
    equal but for rounding have no difference, which else would be told exactly.
    """
    ours, theirs = float(first.observed.mean()), float(second.observed.mean())
    value = 0.0 if math.isclose(ours, theirs, rel_tol=EQUAL) else ours - theirs
    effect = first.of_items.mean(1) - second.of_items.mean(1)
    if value == 0 and abs(effect).max() <= 10 * EQUAL * abs(ours):
        effect = 0 * effect
    extra = float(((first.by_row(value + effect) / first.by_row(numpy.ones(len(effect)))) ** 2).max())
    return _estimate(value, effect, extra, [first, second], family or [first, second])


def _estimate(
    value: float, effect: Array, extra: float, ways: list[Runs], family: Family | Sequence[Runs]
) -> Estimate:
    rows = ways[0].by_row(effect)
    count = len(rows)
    most = max(1, count - 1)
    items = (float((rows**2).sum()) + extra) / count / most
    found = varied(ways, family if isinstance(family, Family) else Family(family))
    chance = found or Varied(0.0, 0.0, 0.0, 1)
    base = max(items - chance.noise, 0.0)
    total = base + chance.noise + chance.beyond
    uncertain = base**2 / most + chance.told**2 / chance.freedom
    split, least = None, min(most, chance.freedom)
    folds = 1 if ways[0].folds is None else len(numpy.unique(ways[0].folds))
    if folds > 1:
        split = _split(effect, ways, total)
        total, uncertain = total + split, uncertain + split**2 / (folds - 1)
        least = min(least, folds - 1)
    freedom = max(total**2 / uncertain, least) if uncertain else math.inf
    reach = quantile(freedom) * math.sqrt(total)
    return Estimate(
        value,
        value - reach,
        value + reach,
        math.sqrt(base + chance.noise),
        None if found is None else math.sqrt(chance.beyond),
        freedom,
        math.sqrt(chance.told),
        chance.freedom,
        None if split is None else math.sqrt(split),
    )


def _split(effect: Array, ways: Sequence[Runs], known: float) -> float:
    """The variance of the mean from the training rows of folds or splits, two or more.

    Nadeau & Bengio's (2003) 1/J + test rows / other rows of J random splits, Bouckaert & Frank's (2004)
    1/(k·r) + 1/(k-1) of k folds r times, on what their means vary beyond what is known of the items and the
    seeds. Of these a mean has J times the variance of the mean of all, less what rows in common keep alike.
    """
    folds = ways[0].folds
    places = [folds == fold for fold in numpy.unique(folds)]
    count = len(places)
    ratio = max(1 / (count - 1) if runs.ratio is None else runs.ratio for runs in ways)
    if ways[0].rows is not None:
        alike = _variance(ways[0].by_row(effect)) - _variance(effect)
        known -= alike * count / (count - 1)
    between = float(numpy.var([effect[place].mean() for place in places], ddof=1))
    return max(between - count * known, 0.0) * (1 / count + ratio)


def _variance(effect: Array) -> float:
    """Of the mean of independent values whose own mean is 0."""
    return float((effect**2).sum()) / len(effect) / max(1, len(effect) - 1)


def quantile(freedom: float, level: float = ALPHA) -> float:
    """Student's two-sided critical value."""
    from scipy.special import ndtri, stdtrit

    chance = 1 - level / 2
    return float(ndtri(chance)) if freedom > 1e8 else float(stdtrit(freedom, chance))


def p_of(found: Estimate) -> float:
    """The two-sided p of no difference, below 0.05 exactly where the interval excludes 0."""
    from scipy.special import ndtr, stdtr

    if found.value == 0 or found.error == 0:
        return 1.0 if found.value == 0 else 0.0
    far = -abs(found.value) / found.error
    return 2 * float(ndtr(far) if found.freedom > 1e8 else stdtr(found.freedom, far))


def holm(values: Sequence[float]) -> list[float]:
    """The p values corrected for having looked that often (Holm 1979), in their order."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = highest
    return corrected
