"""How small a difference a comparison of given size would find, before anything is trained."""

from __future__ import annotations

import math

from ftrun.errors import ConfigError

ALPHA = 0.05
POWER = 0.8
SHARED = 0.6  # correlation of two ways' mistakes on the same rows
CHURN = 0.6  # of the rows that two ways answer differently, those that two seeds of one way do too
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
    from scipy.special import ndtri
    from scipy.stats import t

    for name, value, least in (("items", items, 2), ("seeds", seeds, 1), ("tests", tests, 1)):
        if value < least:
            raise ConfigError(f"{name}={value} is not possible; it is at least {least}")
    if not 0 < error_rate < 1:
        raise ConfigError(f"error_rate={error_rate:g} is not possible; it is a share between 0 and 1")
    if seed_spread < 0:
        raise ConfigError(f"seed_spread={seed_spread:g} is not possible; it is at least 0")
    differ = 2 * error_rate * (1 - error_rate) * (1 - SHARED)
    by_items = differ * (1 - CHURN + CHURN / seeds) / items
    by_seeds = 2 * seed_spread**2 / seeds
    error = math.sqrt(by_items + by_seeds)
    freedom = 2 * (seeds - 1) * (error**2 / by_seeds) ** 2 if seeds > 1 and by_seeds else math.inf
    reach = float(t.ppf(1 - ALPHA / tests / 2, freedom)) + float(ndtri(POWER))
    return reach * error
