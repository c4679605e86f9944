"""How small a difference a comparison of given size would find, before anything is trained."""

from __future__ import annotations

import math

from ftrun.errors import ConfigError

ALPHA = 0.05
POWER = 0.8
SHARED = 0.6  # correlation of two ways' mistakes on the same rows
CHURN = 0.6  # of the rows that two ways answer differently, those that two seeds of one way do too
CORRELATION = 0.8  # of a way's answers with the numbers that they should be
ALIKE = 0.9  # correlation of two ways' answers
SEED_SPREAD = 0.01  # standard deviation of a run's score over seeds


def smallest_difference(
    items: int, seeds: int, tests: int = 1, *, error_rate: float = 0.2, seed_spread: float = SEED_SPREAD
) -> float:
    """The difference of two ways in accuracy (a share of 1) that is found with power 0.8 at a level of 5 %.

    `items` are test rows that both ways answer, `seeds` the runs of each way, `tests` the comparisons that
    the level is divided by (Bonferroni's bound of Holm's correction). Two ways with this `error_rate` answer
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
    differ = 2 * error_rate * (1 - error_rate) * (1 - SHARED)
    by_items = differ * (1 - CHURN + CHURN / seeds) / items
    return _found(by_items, 2 * seed_spread**2 / seeds, seeds, tests)


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


def _found(by_items: float, by_seeds: float, seeds: int, tests: int) -> float:
    """What is found at these variances of a difference; Student's t as far as the seeds make it."""
    from scipy.special import ndtri
    from scipy.stats import t

    error = math.sqrt(by_items + by_seeds)
    freedom = 2 * (seeds - 1) * (error**2 / by_seeds) ** 2 if seeds > 1 and by_seeds else math.inf
    reach = float(t.ppf(1 - ALPHA / tests / 2, freedom)) + float(ndtri(POWER))
    return reach * error
