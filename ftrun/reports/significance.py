"""What a finite test set and a few seeds allow to say: intervals, paired tests, and what would decide.

Chance enters twice: which items the test set holds (resampled, Efron 1979) and which seed a run had (the
spread of the runs). A bootstrap over two or three seeds is too narrow by (S-1)/S, so their part is the
unbiased variance of the mean, and the interval is Student's with the degrees of freedom of Satterthwaite
(1946).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from ftrun.tasks.metrics.rescoring import Scored

Array = Any  # numpy.ndarray of floats
RESAMPLES = 10_000
LEVEL = 0.95
ALPHA = 1 - LEVEL
POWER = 0.8


@dataclass
class Estimate:
    """A score or a difference with its interval and the two parts of its standard error."""

    value: float
    low: float
    high: float
    items_error: float  # from the finite test set
    seeds_error: float | None  # from the seeds; None with a single one, where nothing tells it
    freedom: float  # degrees of freedom of the interval; infinite with one seed


def resamples(runs: Sequence[Scored], seed: int = 0, count: int = RESAMPLES) -> Array:
    """Scores of all runs on the same resamples of their items, (count, runs); they share the items' order."""
    generator = numpy.random.default_rng(seed)
    items = len(runs[0].columns)
    widths = numpy.cumsum([run.columns.shape[1] for run in runs])[:-1]
    columns = numpy.concatenate([run.columns for run in runs], axis=1)
    found = []
    chunk = max(1, min(count, 4_000_000 // items))
    for start in range(0, count, chunk):
        size = min(chunk, count - start)
        chosen = generator.integers(0, items, (size, items))
        chosen += items * numpy.arange(size)[:, None]
        times = numpy.bincount(chosen.ravel(), minlength=size * items).reshape(size, items)
        parts = numpy.split(times.astype(float) @ columns, widths, axis=1)
        found.append(numpy.stack([run.finish(p) for run, p in zip(runs, parts, strict=True)], 1))
    return numpy.concatenate(found)


def estimate(observed: Array, draws: Array, left_out: Array) -> Estimate:
    """The mean over runs of scores (runs,), from their resamples (count, runs) and jackknife (items, runs).

    With one run it is the bias-corrected and accelerated interval (Efron 1987) of the items alone.
    """
    value, mean = float(observed.mean()), draws.mean(1)
    items_error = float(mean.std(ddof=1))
    if len(observed) == 1:
        low, high = bca(value, mean, left_out.mean(1))
        return Estimate(value, low, high, items_error, None, math.inf)
    seeds_error = float(observed.std(ddof=1)) / math.sqrt(len(observed))
    return _student(value, items_error, seeds_error, len(observed) - 1)


def difference(first: Runs, second: Runs) -> Estimate:
    """First minus second on the same items; the same seeds are paired, other ones are independent draws."""
    if set(first.seeds) == set(second.seeds):
        order = [second.seeds.index(seed) for seed in first.seeds]
        return estimate(
            first.observed - second.observed[order],
            first.draws - second.draws[:, order],
            first.left_out - second.left_out[:, order],
        )
    value = float(first.observed.mean() - second.observed.mean())
    items_error = float((first.draws.mean(1) - second.draws.mean(1)).std(ddof=1))
    counts = len(first.seeds), len(second.seeds)
    freedom = sum(counts) - 2
    if freedom == 0:
        low, high = bca(
            value, first.draws[:, 0] - second.draws[:, 0], first.left_out[:, 0] - second.left_out[:, 0]
        )
        return Estimate(value, low, high, items_error, None, math.inf)
    squares = sum(float(((part - part.mean()) ** 2).sum()) for part in (first.observed, second.observed))
    seeds_error = math.sqrt(squares / freedom * sum(1 / count for count in counts))
    return _student(value, items_error, seeds_error, freedom)


@dataclass
class Runs:
    """The runs of one study: their seeds, scores, resamples and jackknife, in one order."""

    seeds: list[int]
    observed: Array  # (runs,)
    draws: Array  # (count, runs)
    left_out: Array  # (items, runs)


def _student(value: float, items_error: float, seeds_error: float, freedom: float) -> Estimate:
    from scipy.stats import t

    error = math.hypot(items_error, seeds_error)
    if error == 0:
        return Estimate(value, value, value, 0.0, 0.0, math.inf)
    # the items' part has as many degrees of freedom as there are items: as good as infinitely many
    freedom = freedom * (error / seeds_error) ** 4 if seeds_error else math.inf
    reach = float(t.ppf(1 - ALPHA / 2, freedom)) * error
    return Estimate(value, value - reach, value + reach, items_error, seeds_error, freedom)


def bca(value: float, draws: Array, left_out: Array) -> tuple[float, float]:
    """Bias-corrected and accelerated percentiles (Efron 1987, as in scipy.stats.bootstrap)."""
    from scipy.special import ndtr, ndtri

    below = ((draws < value).sum() + (draws <= value).sum()) / (2 * len(draws))
    if not 0 < below < 1:  # all resamples on one side: the plain percentiles are what is left
        return float(numpy.quantile(draws, ALPHA / 2)), float(numpy.quantile(draws, 1 - ALPHA / 2))
    bias, off = float(ndtri(below)), left_out.mean() - left_out
    spread = float((off**2).sum())
    bend = float((off**3).sum()) / (6 * spread**1.5) if spread else 0.0
    ends = []
    for share in (ALPHA / 2, 1 - ALPHA / 2):
        z = bias + float(ndtri(share))
        ends.append(float(numpy.quantile(draws, float(ndtr(bias + z / (1 - bend * z))))))
    return ends[0], ends[1]


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of two classifiers, from how many items only one of them gets right."""
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(min(only_first, only_second), total).pvalue) if total else 1.0


def p_of(found: Estimate, draws: Array | None = None) -> float:
    """The two-sided p of no difference: Student's with several seeds, from the resamples with one."""
    from scipy.stats import t

    error = math.hypot(found.items_error, found.seeds_error or 0.0)
    if found.value == 0 or error == 0:
        return 1.0 if found.value == 0 else 0.0
    if draws is not None:
        fewer = min((draws <= 0).sum(), (draws >= 0).sum())
        return min(1.0, 2 * (float(fewer) + 1) / (len(draws) + 1))
    return float(2 * t.sf(abs(found.value) / error, found.freedom))


def holm(values: Sequence[float]) -> list[float]:
    """The p values corrected for having looked that often (Holm 1979), in their order."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = highest
    return corrected


def items_needed(found: Estimate, items: int) -> float | None:
    """Items on which this difference would be found with power 0.8; None where the seeds alone hide it.

    With one run each it is Connor's (1987) (z_.975·√p + z_.8·√(p-δ²))² / δ², p the share of discordant items.
    """
    from scipy.special import ndtri

    if found.value == 0:
        return math.inf
    first, second = float(ndtri(1 - ALPHA / 2)), float(ndtri(POWER))
    variance = items * found.items_error**2  # of one item's paired difference
    if not found.seeds_error:
        return (first * math.sqrt(variance + found.value**2) + second * math.sqrt(variance)) ** 2 / (
            found.value**2
        )
    room = (found.value / (first + second)) ** 2 - found.seeds_error**2
    return variance / room if room > 0 else None
