"""Statistics against closed forms and scipy beyond single cases: clusters, families, power."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy
import pytest
from scipy import stats
from scipy.special import ndtri

from ftrun.errors import ConfigError
from ftrun.reports.statistics.curves import reaching, times_fewer
from ftrun.reports.statistics.intervals import interval_of, of_one_run, scored_lines
from ftrun.reports.statistics.power import smallest_correlation_difference, smallest_difference
from ftrun.reports.statistics.seeds import Family, Runs, shrunk, varied
from ftrun.reports.statistics.significance import (
    Estimate,
    difference,
    estimate,
    holm,
    p_of,
    quantile,
)
from ftrun.tasks.metrics.rescoring import scored

CHANCE = numpy.random.default_rng(11)


def runs_of(values: Any, seeds: list[int] | None = None, **more: Any) -> Runs:
    """Runs whose score is the mean of these values, (seeds, items)."""
    table = numpy.atleast_2d(numpy.asarray(values, dtype=float))
    left_out = (table.sum(1)[:, None] - table) / (table.shape[1] - 1)
    return Runs(seeds or [*range(len(table))], table.mean(1), left_out.T, **more)


def line(label: Any, answer: Any, **more: Any) -> dict[str, Any]:
    return {"label": label, "answer": answer, **more}


def test_the_interval_of_a_run_is_of_the_rows_that_have_a_label_and_an_answer() -> None:
    right, wrong = line("a", "a"), line("a", "b")
    rows = [right] * 30 + [wrong] * 10
    found = interval_of("accuracy", rows)
    theirs = stats.binomtest(30, 40).proportion_ci(method="wilson")
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.01)
    for unknown in (line(None, "a"), line("a", None), {"answer": "a"}, {"label": "a"}):
        assert interval_of("accuracy", [*rows, unknown]) == found
    assert interval_of(None, rows) is None and interval_of("accuracy", []) is None
    assert interval_of("accuracy", [right]) is None  # a row tells no interval
    assert interval_of("accuracy", [right, wrong]) is not None
    assert interval_of("perplexity", rows) is None  # no score of labels and answers
    assert interval_of("accuracy", [*rows, line("a", "a", task="first")]) is None  # a mean over tasks


@pytest.mark.parametrize(("metric", "share"), [("accuracy", True), ("rmse", False), ("pearson", False)])
def test_only_a_share_of_one_has_wilsons_interval(metric: str, share: bool) -> None:
    numbers = metric != "accuracy"
    labels = [*range(40)]
    answers = [n + (0.5 if numbers else 0) * (-1) ** n + (n % 4 == 0) for n in labels]
    found = scored_lines(metric, [line(a, b) for a, b in zip(labels, answers, strict=True)])
    assert found is not None
    one = of_one_run(found, metric)
    plain = estimate(Runs([0], numpy.array([found.score]), found.left_out[:, None]))
    assert one.value == found.score == pytest.approx(scored(metric, labels, answers).score)  # type: ignore[union-attr]
    symmetric = one.high - one.value == pytest.approx(one.value - one.low)
    assert symmetric is not share and ((one.low, one.high) == (plain.low, plain.high)) is not share


def test_items_of_one_row_count_as_the_row() -> None:
    """Each row twice with the same value is the row once: as many independent values, and no more."""
    values = CHANCE.normal(size=(3, 40))
    twice = numpy.repeat(values, 2, axis=1)
    rows = numpy.repeat(numpy.arange(40), 2)
    once, clustered = estimate(runs_of(values)), estimate(runs_of(twice, rows=rows))
    for name in ("value", "low", "high", "items_error", "seeds_error", "freedom"):
        assert getattr(clustered, name) == pytest.approx(getattr(once, name)), name
    assert runs_of(twice, rows=rows).influence.shape == (40, 3)
    independent = estimate(runs_of(twice))
    assert independent.items_error < 0.8 * once.items_error
    apart = [runs_of(v, rows=rows) for v in (twice, twice[:, ::-1] + 0.2)]
    plain = [runs_of(v) for v in (values, values[:, ::-1] + 0.2)]
    one, other = difference(*apart), difference(*plain)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))
    uneven = runs_of([[1.0, 1.0, 4.0]], rows=numpy.array([0, 0, 1]))
    assert uneven.by_row(numpy.array([1.0, 1.0, 4.0])).tolist() == pytest.approx([4 / 3, 8 / 3])  # mean 2
    assert uneven.by_row(numpy.array([[1.0], [1.0], [4.0]])).shape == (2, 1)


def test_the_noise_of_items_is_the_residual_of_the_two_way_table() -> None:
    table = CHANCE.normal(size=(4, 25)) + CHANCE.normal(size=(1, 25))
    runs = runs_of(table)
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    assert runs.noise == pytest.approx((rest**2).sum() / 3 / 24 / 25)
    assert runs.variance == pytest.approx(table.mean(1).var(ddof=1)) and runs.freedom == 3
    alone = runs_of(table[:1])
    assert (alone.noise, alone.variance, alone.freedom) == (0.0, 0.0, 0)
    assert runs_of(table, fixed=True).freedom == 0


def test_runs_are_subtracted_seed_by_seed_in_whatever_order_they_come() -> None:
    table, other = CHANCE.normal(size=(2, 3, 12))
    one, two = runs_of(table, [4, 7, 9]), runs_of(other[[2, 0, 1]], [9, 4, 7], fixed=True)
    found = one.minus(two)
    assert found.seeds == [4, 7, 9] and not found.fixed
    assert found.observed == pytest.approx((table - other).mean(1))
    assert found.influence.T == pytest.approx((table - other) - (table - other).mean(1, keepdims=True))


def test_a_family_weighs_its_ways_by_their_degrees_of_freedom() -> None:
    few, many = runs_of(CHANCE.normal(size=(2, 9))), runs_of(CHANCE.normal(size=(5, 9)))
    lone, fixed = runs_of(CHANCE.normal(size=(1, 9))), runs_of(CHANCE.normal(size=(2, 9)), fixed=True)
    family = Family([few, many, lone, fixed])
    assert family.freedom == 1 + 4
    assert family.variance == pytest.approx((few.variance + 4 * many.variance) / 5)
    assert family.noise == pytest.approx((few.noise + 4 * many.noise) / 5)
    assert family.block([1, 0]) == 1 and family.block([0]) == 1 and family.block([5]) == 0
    assert Family([few, runs_of(CHANCE.normal(size=(2, 9)))]).block([0, 1]) == 2


def test_seeds_are_blocks_from_three_ways_or_five_seeds_on() -> None:
    """Then the variance is that of the differences; with fewer ways and seeds that of each way."""
    for count, ways, blocked in ((3, 2, False), (3, 3, True), (4, 2, False), (5, 2, True)):
        # the same for all ways in a seed, so that differences do not vary and ways do
        shared = CHANCE.normal(size=(count, 1)) * 5
        runs = [runs_of(shared + CHANCE.normal(size=(count, 30)) * 0.1) for _ in range(ways)]
        found = varied(runs[:2], Family(runs))
        assert found is not None and (found.told < 0.1) is blocked
        of_family, own = ((ways - 1), 1) if blocked else (ways, 2)  # times the seeds but one
        assert found.freedom == min(of_family * (count - 1), 4 + own * (count - 1))


def test_single_runs_of_a_family_that_has_no_seeds_tell_no_spread() -> None:
    lone = [runs_of(CHANCE.normal(size=(1, 9))) for _ in range(2)]
    assert varied(lone, Family(lone)) is None
    fixed = runs_of(CHANCE.normal(size=(2, 9)), fixed=True)
    assert varied([fixed], Family([fixed])) == (0.0, 0.0, 0.0, 1)
    several = runs_of(CHANCE.normal(size=(3, 9)))
    borrowed = varied([lone[0]], Family([lone[0], several]))
    assert borrowed is not None
    assert borrowed.told == pytest.approx(max(shrunk(lone[0], several.variance), several.noise))
    assert borrowed.noise == pytest.approx(several.noise) and borrowed.freedom == 2


@pytest.mark.parametrize(("hits", "items"), [(0, 30), (1, 30), (15, 30), (29, 30), (30, 30)])
def test_wilsons_interval_at_any_share(hits: int, items: int) -> None:
    """With Student's quantile, and the number of items that the score's error stands for."""
    found = estimate(runs_of(numpy.arange(items) < hits), share=True)
    p, q = hits / items, float(stats.t.ppf(0.975, items - 1)) if 0 < hits < items else float(ndtri(0.975))
    n = items - 1 if 0 < hits < items else items
    middle, reach = p + q**2 / n / 2, q * math.sqrt(p * (1 - p) / n + (q / n / 2) ** 2)
    assert (found.low, found.high) == pytest.approx(
        ((middle - reach) / (1 + q**2 / n), (middle + reach) / (1 + q**2 / n)), abs=1e-9
    )
    assert 0 <= found.low <= p <= found.high + 1e-15 and found.high <= 1


@pytest.mark.parametrize("freedom", [1, 3, 30, 1e9, math.inf])
def test_critical_values_and_p_are_student_s_and_of_infinite_freedom_the_normal_s(freedom: float) -> None:
    theirs: Any = stats.norm if freedom > 1e8 else stats.t(freedom)
    for level in (0.05, 0.01, 0.05 / 6):
        assert quantile(freedom, level) == pytest.approx(theirs.isf(level / 2))
    for value in (-0.3, 0.1, 2.0):
        found = Estimate(value, 0, 0, 0.3, 0.4, freedom)
        assert found.error == pytest.approx(0.5)
        assert p_of(found) == pytest.approx(2 * theirs.sf(abs(value) / 0.5))
    assert p_of(Estimate(0.0, 0, 0, 0.0, None, freedom)) == p_of(Estimate(0.0, 0, 0, 1.0, None, freedom)) == 1
    assert p_of(Estimate(0.1, 0, 0, 0.0, None, freedom)) == 0.0
    assert Estimate(0, 0, 0, 0.3, 0.4, 1, split_error=1.2).error == pytest.approx(1.3)
    assert Estimate(0, 0, 0, 0.3, None, 1).error == 0.3


def test_holm_is_that_of_its_definition() -> None:
    """The largest of (m - rank)·p so far; rejected at a level exactly where Holm's steps reject."""
    for _ in range(50):
        values = CHANCE.random(6) * 0.05
        found, order = holm(values.tolist()), numpy.argsort(values)
        expected = numpy.maximum.accumulate(numpy.minimum(1, (6 - numpy.arange(6)) * values[order]))
        assert numpy.array(found)[order] == pytest.approx(expected)


@pytest.mark.parametrize(("seeds", "tests"), [(1, 1), (2, 1), (3, 3), (3, 1), (5, 1), (8, 10)])
def test_the_smallest_difference_is_what_its_formula_says(seeds: int, tests: int) -> None:
    """Of rows that are answered differently, chance of the single run averages out over seeds."""
    differ = 2 * 0.3 * 0.7 * 0.5 / 400
    by_items, by_runs = 0.2 * differ, (0.8 * differ + 2 * 0.02**2) / seeds
    freedom = math.inf
    if seeds > 1:
        ways = {1: 2, 3: 3, 10: 5}[tests]  # of which there are so many pairs
        paired = ways >= 3 or seeds >= 5
        known = min((ways - paired) * (seeds - 1), 4 + (2 - paired) * (seeds - 1))
        freedom = known * ((by_items + by_runs) / by_runs) ** 2
    reach = quantile(freedom, 0.05 / tests) + float(ndtri(0.8))
    found = smallest_difference(400, seeds, tests, error_rate=0.3, seed_spread=0.02)
    assert found == pytest.approx(reach * math.sqrt(by_items + by_runs))


def test_the_defaults_of_a_plan_are_those_that_were_measured() -> None:
    """A fifth of the answers wrong, and the spread over seeds of twelve strategies in RESULTS.md."""
    plain = smallest_difference(300, 3)
    assert plain == smallest_difference(300, 3, 1, error_rate=0.2, seed_spread=0.01)
    assert smallest_correlation_difference(300, 3) == smallest_correlation_difference(
        300, 3, 1, seed_spread=0.01
    )


def test_the_variance_of_two_correlations_is_steiger_s() -> None:
    """Dunn and Clark's covariance of two correlations that share a variable, in Fisher's z."""
    r, both, items = 0.8, 0.9, 203
    covariance = both * (1 - 2 * r**2) - 0.5 * r**2 * (1 - 2 * r**2 - both**2)
    variance = 2 * (1 - covariance / (1 - r**2) ** 2) / (items - 3) * (1 - r**2) ** 2
    alone = smallest_correlation_difference(items, 1, seed_spread=0.0)
    assert alone == pytest.approx((float(ndtri(0.975)) + float(ndtri(0.8))) * math.sqrt(variance))
    spread = smallest_correlation_difference(items, 1, seed_spread=0.03)
    assert spread == pytest.approx(alone * math.sqrt(1 + 2 * 0.03**2 / variance))
    for name, value in (("items", 1), ("seeds", 0), ("tests", 0)):
        words = {"items": 9, "seeds": 1, name: value}
        for smallest in (smallest_difference, smallest_correlation_difference):
            with pytest.raises(ConfigError, match=f"^{name}={value} is not possible; it is at least"):
                smallest(**words)
    with pytest.raises(ConfigError, match="^items=3 is not possible; it is at least 4"):
        smallest_correlation_difference(3, 1)
    assert smallest_correlation_difference(4, 1) > 0 and smallest_difference(2, 1) > 0


def test_a_curve_reaches_a_level_between_its_points_in_the_logarithm() -> None:
    curve = [(10.0, 0.5), (100.0, 0.7), (1000.0, 0.7), (10_000.0, 0.9)]
    assert [reaching(curve, level) for level in (0.4, 0.5, 0.7)] == pytest.approx([10, 10, 100])
    assert reaching(curve, 0.6) == pytest.approx(math.sqrt(10 * 100))
    assert reaching(curve, 0.8) == pytest.approx(math.sqrt(1000 * 10_000)) and reaching(curve, 0.91) is None
    levels = [reaching(curve, level) or math.nan for level in numpy.linspace(0.5, 0.9, 9)]
    assert all(one <= other for one, other in pairwise(levels))
    assert times_fewer(curve, [(10.0, 0.5), (1000.0, 0.6)]) == pytest.approx(1000 / math.sqrt(1000))
    assert times_fewer(curve, [(10.0, 0.4), (1000.0, 0.5)]) is None  # had at the first point already
    assert times_fewer(curve, [(10.0, 0.5), (1000.0, 0.95)]) is None
