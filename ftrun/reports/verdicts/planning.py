"""What a comparison of given size can show, and what would show more, as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports.numbers import points
from ftrun.reports.rare import OVER_LABELS, equal_rows
from ftrun.reports.statistics.power import (
    ALIKE,
    CORRELATION,
    SEED_SPREAD,
    SHARED,
    smallest_correlation_difference,
    smallest_difference,
)
from ftrun.reports.verdicts.sentences import rounded
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SHARES = ("accuracy", "exact_match", "subset_accuracy", "knn_accuracy")  # of rows answered rightly
CORRELATIONS = ("pearson", "spearmanr")
ERROR_RATE = 0.2  # of a way, where nothing tells it
LEAST = 4  # test rows below which nothing is said
SEEDS = 10  # that anybody could run
FOLDS = 5
WORTH = 0.75  # of the difference: what is advised lowers it at least to this


def power_lines(
    metric: str,
    rows: int,
    seeds: int,
    ways: int,
    tests: int,
    error_rate: float | None,
    pool: int | None,
    labels: Mapping[str, int] | None = None,
) -> list[str]:
    """The smallest difference that will be found, what that assumes, and what would lower it.

    `error_rate` is TF-IDF's on these rows, None where there is none; `pool` are all rows, each of which
    task.folds would test once, None where folds cannot be had; `labels` are the rows of each label, where
    each row has one.
    """
    given = f"{counted(rows, 'test row')}, {counted(seeds, 'seed')}"
    given += f", {ways} ways ({counted(tests, 'test')})" if ways > 1 else ", against one other way"
    if rows < LEAST:
        return [f"{given}: too few rows to tell any two ways apart"]
    if metric in CORRELATIONS:
        assumed = (
            f"assumes correlations of about {CORRELATION:g} with the numbers and of {ALIKE:g} between two"
            f" ways (Steiger 1980), and a standard deviation of {SEED_SPREAD:g} over seeds"
        )
        return _lines(given, metric, assumed, rows, seeds, pool, of_correlations(tests))
    if not lookup(metric).is_share:
        return [
            f"{given}: what differences of {metric} can be told apart depends on its spread over rows, which"
            " no rule tells before a run of each way; ftrun report tells it after one"
        ]
    if metric in OVER_LABELS and labels and rows >= LEAST:
        return _over_labels(given, metric, rows, seeds, tests, pool, labels)
    error = ERROR_RATE if error_rate is None else min(0.5, max(1 / rows, error_rate))
    differ = 2 * error * (1 - error) * (1 - SHARED)
    whose = "" if error_rate is None else ", TF-IDF's share"
    assumed = (
        f"assumes that a way is wrong on {100 * error:.0f} % of the rows{whose}, that two ways differ on"
        f" {100 * differ:.0f} % of them, and a standard deviation of {100 * SEED_SPREAD:g} point over seeds"
    )
    lines = _lines(given, metric, assumed, rows, seeds, pool, of_shares(tests, error))
    if metric not in SHARES:
        lines.insert(1, f"the rule is for a share of rows, such as accuracy; {metric} is none: a rough guide")
    return lines


def _over_labels(
    given: str, metric: str, rows: int, seeds: int, tests: int, pool: int | None, labels: Mapping[str, int]
) -> list[str]:
    """Of a mean over labels, which is as unsure as that of the rarest one makes it."""
    name, fewest = min(labels.items(), key=lambda item: item[1])
    share = equal_rows(labels.values()) / sum(labels.values())
    assumed = (
        f"{metric} is a mean over {counted(len(labels), 'label')}, of which {name!r} has"
        f" {counted(fewest, 'test row')}: as unsure as {counted(round(share * rows), 'row')} of equal labels;"
        f" assumes {100 * ERROR_RATE:.0f} % wrong of each, and a standard deviation of"
        f" {100 * SEED_SPREAD:g} point over seeds"
    )
    rule = of_shares(tests, ERROR_RATE, share)
    return _lines(given, metric, assumed, rows, seeds, pool, rule)


def of_shares(tests: int, error_rate: float, share: float = 1.0) -> Callable[[int, int], float]:
    """By rows and seeds, where the metric is as unsure as an accuracy of this share of the rows."""
    return lambda rows, seeds: smallest_difference(
        max(2, round(share * rows)), seeds, tests, error_rate=error_rate
    )


def of_correlations(tests: int) -> Callable[[int, int], float]:
    return lambda rows, seeds: smallest_correlation_difference(rows, seeds, tests)


def _lines(
    given: str,
    metric: str,
    assumed: str,
    rows: int,
    seeds: int,
    pool: int | None,
    rule: Callable[[int, int], float],
) -> list[str]:
    now = rule(rows, seeds)
    helps = [(f"{rounded(4 * rows):,} test rows", rule(rounded(4 * rows), seeds), "")]
    if seeds < SEEDS:
        helps.insert(0, (f"{SEEDS} seeds", rule(rows, SEEDS), ""))
    if pool is not None and pool > rows:
        folds = rule(pool, seeds)
        advice = "; advised, test rows being few" if folds <= WORTH * now else ""
        helps.append((f"task.folds={FOLDS}, which tests all {pool:,} rows", folds, advice))
    lower = [
        f"  with {what}: {points(value, metric)}{advice}" for what, value, advice in helps if value < now
    ]
    return [
        f"{given}: differences below about {points(now, metric)} will not be told apart",
        assumed,
        *lower,
    ]
