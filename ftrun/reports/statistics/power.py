"""How many items decide a difference, and how small a difference given numbers of items and seeds decide."""

from __future__ import annotations

import math

from ftrun.errors import ConfigError
from ftrun.reports.statistics.seeds import BLOCKED, BLOCKS, PRIOR
from ftrun.reports.statistics.significance import ALPHA, POWER, Estimate, quantile

MOST_ITEMS = 1e12
CORRELATION = 0.8  # of a way's answers with the numbers that they should be
ALIKE = 0.9  # correlation of two ways' answers
SHARED = 0.5  # correlation of two ways' mistakes on the same rows, as in scripts/bench/trust.py
CHURN = 0.8  # of the rows that two ways answer differently, those that two seeds of one way do too; as there
SEED_SPREAD = 0.01  # of a run's accuracy: root mean square of twelve strategies in scripts/bench/RESULTS.md


def items_needed(found: Estimate, items: int, tests: int = 1) -> float | None:
    """Items on which a difference of this size is found with power 0.8, at a level of 5 % for all `tests`.

    Every part of the variance that comes from items shrinks with their number, and the seeds' stays. None
    where the seeds alone hide the difference, infinite where there is none.
    """
    from scipy.optimize import brentq

    if found.value == 0:
        return math.inf
    fixed = (found.seeds_error or 0.0) ** 2 + (found.split_error or 0.0) ** 2
    noise = found.unsure_error**2 - (found.seeds_error or 0.0) ** 2

    def missing(logarithm: float) -> float:
        fewer = items / math.exp(logarithm)
        total = fewer * found.items_error**2 + fixed
        unsure = fixed + max(fewer * noise, 0.0)
        freedom = found.seeds_freedom * max(total / unsure, 1) ** 2 if unsure else math.inf
        return _reach(freedom, tests) * math.sqrt(total) - abs(found.value)

    least, most = math.log(2), math.log(MOST_ITEMS)
    if missing(most) > 0:
        return None
    return 2.0 if missing(least) < 0 else math.exp(brentq(missing, least, most))


def measured_difference(found: Estimate, tests: int = 1) -> float:
    """The difference that is found with power 0.8 at a level of 5 % for all `tests`, at this one's errors."""
    return _reach(found.freedom, tests) * found.error


def _reach(freedom: float, tests: int) -> float:
    """The standard errors that a difference found with power 0.8 has, at a level of 5 % for all `tests`."""
    from scipy.special import ndtri

    return quantile(freedom, ALPHA / tests) + float(ndtri(POWER))


def smallest_difference(
    items: int, seeds: int, tests: int = 1, *, error_rate: float = 0.2, seed_spread: float = SEED_SPREAD
) -> float:
    """The difference of two ways in accuracy (a share of 1) that is found with power 0.8 at a level of 5 %.

    `items` are test rows that both ways answer, `seeds` the runs of each way, `tests` the comparisons that
    the level is divided by (Bonferroni's bound of Holm's correction), of all pairs of some number of ways
    that share their spread. Two ways with this `error_rate` answer
    2·error_rate·(1 - error_rate)·(1 - SHARED) of the rows differently; CHURN of that is chance of the single
    run and averages out over seeds, as does the `seed_spread`. With one seed the spread is taken as known,
    which a comparison of single runs cannot check. ConfigError where an argument is out of range.
    """
    for name, value, least in (("items", items, 2), ("seeds", seeds, 1), ("tests", tests, 1)):
        if value < least:
            raise ConfigError(f"{name}={value} is not possible; it is at least {least}")
    if not 0 < error_rate < 1:
        raise ConfigError(f"error_rate={error_rate:g} is not possible; it is a share between 0 and 1")
    if seed_spread < 0:
        raise ConfigError(f"seed_spread={seed_spread:g} is not possible; it is at least 0")
    differ = 2 * error_rate * (1 - error_rate) * (1 - SHARED) / items
    by_runs = (differ * CHURN + 2 * seed_spread**2) / seeds
    return _found(differ * (1 - CHURN), by_runs, seeds, tests)


def smallest_correlation_difference(
    items: int, seeds: int, tests: int = 1, *, seed_spread: float = SEED_SPREAD
) -> float:
    """The same for the difference of two correlations with one column of numbers, Pearson's or Spearman's.

    Both are taken to be CORRELATION and the answers of two ways to correlate by ALIKE; the variance is that
    of Fisher's z for correlations with one variable in common (Steiger 1980, with the covariance of Dunn and
    Clark 1969), 2·(1 - c) / (items - 3), times (1 - CORRELATION²)² for the scale of the correlations.
    """
    for name, value, least in (("items", items, 4), ("seeds", seeds, 1), ("tests", tests, 1)):
        if value < least:
            raise ConfigError(f"{name}={value} is not possible; it is at least {least}")
    own, both = CORRELATION**2, ALIKE
    covariance = both * (1 - 2 * own) - own / 2 * (1 - 2 * own - both**2)
    by_items = 2 * ((1 - own) ** 2 - covariance) / (items - 3)
    return _found(by_items, 2 * seed_spread**2 / seeds, seeds, tests)


def _found(by_items: float, by_runs: float, seeds: int, tests: int) -> float:
    """What is found at these variances of a difference; Student's t as far as the seeds make it."""
    freedom = math.inf
    if seeds > 1 and by_runs:
        ways = max(2, int((1 + math.sqrt(1 + 8 * tests)) / 2))
        paired = ways >= BLOCKED or seeds >= BLOCKS
        known = min((ways - paired) * (seeds - 1), PRIOR + (2 - paired) * (seeds - 1))
        freedom = known * ((by_items + by_runs) / by_runs) ** 2
    return _reach(freedom, tests) * math.sqrt(by_items + by_runs)
