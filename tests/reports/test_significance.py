"""Statistics against closed forms, scipy and simulation; identical runs are never told apart."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy
import pytest
from scipy import stats
from sklearn import metrics

from ftrun.errors import ConfigError
from ftrun.reports.diagnosing.calibration import calibration
from ftrun.reports.statistics.intervals import interval_of, of_one_run
from ftrun.reports.statistics.power import items_needed, smallest_difference
from ftrun.reports.statistics.seeds import PRIOR, Runs, shrunk
from ftrun.reports.statistics.significance import Estimate, difference, estimate, holm, p_of
from ftrun.tasks.metrics.rescoring import scored


def runs_of(values: object, seeds: list[int] | None = None, folds: object = None) -> Runs:
    """Runs whose score is the mean of these values, (seeds, items)."""
    table = numpy.atleast_2d(numpy.asarray(values, dtype=float))
    left_out = (table.sum(1)[:, None] - table) / (table.shape[1] - 1)
    return Runs(seeds or [*range(len(table))], table.mean(1), left_out.T, folds)


def family_of(
    chance: numpy.random.Generator, gaps: list[float], *, items: int = 60, seeds: int = 3, sd: float = 0.15
) -> list[Runs]:
    """Ways on the same items: items, ways with items, seeds and the rest are normal."""
    ease = chance.normal(0, 1, items)
    return [
        runs_of(
            gap + ease + chance.normal(0, 0.5, items) + chance.normal(0, sd, (seeds, 1))
            + chance.normal(0, 0.5, (seeds, items))
        )
        for gap in gaps
    ]  # fmt: skip


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("metric", ["accuracy", "f1", "precision", "recall", "matthews_correlation"])
def test_scores_are_those_of_scikit_learn_without_each_item(metric: str) -> None:
    generator = numpy.random.default_rng(1)
    labels, answers = (generator.choice(list("abc"), 40).tolist() for _ in range(2))
    found = (scored(metric, labels, answers) or pytest.fail()).left_out
    macro = {"average": "macro", "zero_division": 0}
    function, words = {
        "accuracy": (metrics.accuracy_score, {}),
        "f1": (metrics.f1_score, macro),
        "precision": (metrics.precision_score, macro),
        "recall": (metrics.recall_score, macro),
        "matthews_correlation": (metrics.matthews_corrcoef, {}),
    }[metric]
    for item in range(40):
        rest = labels[:item] + labels[item + 1 :], answers[:item] + answers[item + 1 :]
        assert found[item] == pytest.approx(function(*rest, **words), abs=1e-12)


@pytest.mark.parametrize("metric", ["pearson", "mae", "rmse", "spearmanr"])
def test_scores_of_numbers(metric: str) -> None:
    x = numpy.random.default_rng(2).normal(3, 1, 50)
    y = x + numpy.random.default_rng(3).normal(0, 1, 50)
    expected = {
        "pearson": stats.pearsonr(x, y)[0],
        "spearmanr": stats.spearmanr(x, y)[0],
        "mae": abs(x - y).mean(),
        "rmse": math.sqrt(((x - y) ** 2).mean()),
    }[metric]
    assert (scored(metric, x.tolist(), y.tolist()) or pytest.fail()).score == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["pearson", "spearmanr"])
@pytest.mark.parametrize(("scale", "mean"), [(1e-13, 0.0), (1e-13, 1e-6), (1e9, 3e12)])
def test_a_correlation_does_not_go_by_the_unit(metric: str, scale: float, mean: float) -> None:
    x = numpy.random.default_rng(2).normal(3, 1, 50)
    y = x + numpy.random.default_rng(3).normal(0, 1, 50)
    plain = scored(metric, x.tolist(), y.tolist()) or pytest.fail()
    other = scored(metric, (mean + scale * x).tolist(), (mean + scale * y).tolist()) or pytest.fail()
    assert other.left_out == pytest.approx(plain.left_out, rel=1e-6) and other.defined


@pytest.mark.parametrize("metric", ["pearson", "spearmanr"])
def test_a_correlation_with_a_constant_is_not_defined(metric: str) -> None:
    rising, level = [1.0, 2.0, 4.0], [2.5, 2.5, 2.5 + 1e-9]
    for labels, answers in ((rising, level), ([3.0, 3.0, 3.0], rising), ([7.0], [1.0])):
        found = scored(metric, labels, answers) or pytest.fail()
        assert (found.score, found.defined) == (0.0, False)
        lines = [{"label": own, "answer": said} for own, said in zip(labels, answers, strict=True)]
        assert interval_of(metric, lines) is None
    few, enough = (scored(metric, own, own) or pytest.fail() for own in (rising, [*rising, 5.0]))
    assert (few.score, few.defined) == (pytest.approx(1), False) and enough.defined
    assert (scored("mae", rising, level) or pytest.fail()).defined


def test_without_the_only_item_there_is_no_other_score() -> None:
    assert (scored("accuracy", ["a"], ["a"]) or pytest.fail()).left_out.tolist() == [1.0]
    assert (scored("accuracy", ["a", "b"], ["a", "a"]) or pytest.fail()).left_out.tolist() == [0.0, 1.0]
    one = Runs([0], numpy.array([1.0]), numpy.array([[1.0]]))
    assert one.influence.tolist() == [[0.0]] and estimate(one).items_error == 0.0


def test_an_interval_is_symmetric_unless_the_score_is_said_to_be_a_share() -> None:
    found = estimate(runs_of(numpy.arange(100) < 80))
    assert found.high - found.value == pytest.approx(found.value - found.low)


@pytest.mark.parametrize(
    ("metric", "labels", "answers", "low", "high"),
    [
        ("pearson", [0.0, 1.0, 2.0, 3.0], [0.1, 0.9, 2.3, 1.9], -1, 1),
        ("spearmanr", [0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 2.0, 3.0], -1, 1),
        ("matthews_correlation", [*"aaabbb"], [*"aaabba"], -1, 1),
        ("mae", [0.0, 0.0, 0.0], [0.1, 0.0, 4.0], 0, math.inf),
        ("rmse", [0.0, 0.0, 0.0], [0.1, 0.0, 4.0], 0, math.inf),
    ],
)
def test_an_interval_ends_where_the_metric_does(
    metric: str, labels: Any, answers: Any, low: int, high: int
) -> None:
    tried = scored(metric, labels, answers) or pytest.fail()
    alone = Runs([0], numpy.array([tried.score]), tried.left_out[:, None])
    free, found = estimate(alone), of_one_run(tried, metric)
    assert free.low < low or free.high > high, "without ends it would reach beyond them"
    assert low <= found.low < found.value < found.high <= high
    assert low in (found.low, found.high) or high in (found.low, found.high)


def test_several_labels_per_row() -> None:
    labels, answers = [["a", "b"], ["b"], []], [["b"], ["b"], ["a"]]
    assert (scored("micro_f1", labels, answers) or pytest.fail()).score == pytest.approx(4 / 6)
    assert (scored("subset_accuracy", labels, answers) or pytest.fail()).score == pytest.approx(1 / 3)
    assert scored("f1", [{"text": "x"}], [["y"]]) is None


def test_one_run_has_wilsons_interval() -> None:
    hits = numpy.arange(3000) < 2820
    found = estimate(runs_of(hits), share=True)
    theirs = stats.binomtest(2820, 3000).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=2e-5)
    assert found.items_error == pytest.approx(hits.std(ddof=1) / math.sqrt(3000))
    assert found.seeds_error is None
    perfect = estimate(runs_of(numpy.ones(50)), share=True)
    assert 0.9 < perfect.low < 0.95 and perfect.high == 1.0


@pytest.mark.parametrize("items", range(2, 60))
def test_an_interval_holds_its_score(items: int) -> None:
    for hits in (numpy.ones(items), numpy.zeros(items)):
        found = estimate(runs_of(hits), share=True)
        assert found.low <= found.value <= found.high


def test_a_difference_of_one_run_each_is_the_paired_t_test_but_for_its_extra_item() -> None:
    x, y = numpy.random.default_rng(3).normal(0, 1, (2, 800))
    found = difference(runs_of(x), runs_of(y))
    theirs = stats.ttest_rel(x, y).confidence_interval()
    assert found.value == pytest.approx((x - y).mean())
    wide = (found.high - found.low) / (theirs.high - theirs.low)
    assert wide == pytest.approx(math.sqrt(1 + abs(x - y).max() ** 2 / ((x - y).var() * 800)))


def test_the_variance_is_the_crossed_decomposition_by_hand() -> None:
    table = numpy.array([[3.0, 5.0, 8.0, 4.0], [4.0, 9.0, 9.0, 6.0], [1.0, 2.0, 8.0, 1.0]])  # seeds × items
    # grand mean 5; seeds 5, 7, 3; items 8/3, 16/3, 25/3, 11/3: sums of squares 32, 55 1/3 and 10 2/3
    items, seeds, rest = (55 + 1 / 3) / 3, 32 / 2, (10 + 2 / 3) / 6
    found = estimate(runs_of(table))
    assert found.error**2 == pytest.approx((items + seeds - rest) / 12)
    assert found.items_error**2 == pytest.approx(items / 12)
    assert found.seeds_error**2 == pytest.approx((seeds - rest) / 12)  # type: ignore[operator]
    own = (items - rest) / 12
    freedom = (own + seeds / 12) ** 2 / (own**2 / 3 + (seeds / 12) ** 2 / 2)
    assert found.freedom == pytest.approx(freedom)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, freedom) * found.error)


def test_what_the_ways_share_of_a_seed_cancels() -> None:
    ways = family_of(numpy.random.default_rng(0), [0.0, 0.1, 0.2])
    plain = difference(ways[0], ways[1], ways)
    moved = numpy.array([5.0, -3.0, 1.0])
    shifted = [Runs(w.seeds, w.observed + moved, w.left_out + moved) for w in ways]
    found = difference(shifted[0], shifted[1], shifted)
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high))
    turned = Runs([2, 0, 1], ways[1].observed[[2, 0, 1]], ways[1].left_out[:, [2, 0, 1]])
    again = difference(ways[0], turned, [ways[0], turned, ways[2]])
    assert (again.low, again.high) == pytest.approx((plain.low, plain.high))


def test_blocks_are_the_two_way_analysis_of_ways_and_seeds() -> None:
    """Of many items without noise what is left is the residual of ways × seeds, pooled over the ways."""
    scores = numpy.array([[0.0, 3.0, 6.0], [1.0, 4.0, 7.0 + 1.5], [2.0, 3.5, 8.0]])
    ways = [runs_of(row[:, None] + numpy.zeros((3, 50))) for row in scores]
    rest = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    pooled, own = 2 * (rest**2).sum() / 4, (scores[0] - scores[1]).var(ddof=1)
    expected = max((PRIOR * pooled + 2 * own) / (PRIOR + 2), own) / 3
    assert difference(ways[0], ways[1], ways).seeds_error == pytest.approx(math.sqrt(expected))


def test_a_way_that_varies_more_borrows_no_calm() -> None:
    calm, wild = runs_of([[0.0] * 9, [1.0] * 9]), runs_of([[0.0] * 9, [9.0] * 9])
    assert shrunk(wild, 20.0) == wild.variance == pytest.approx(40.5)
    assert shrunk(calm, 20.0) == pytest.approx((PRIOR * 20.0 + 0.5) / (PRIOR + 1))
    alone, pooled = estimate(calm), estimate(calm, [calm, wild])
    assert (pooled.seeds_error or 0) > (alone.seeds_error or 0)


def test_one_seed_tells_no_spread_and_borrows_that_of_the_others() -> None:
    ways = family_of(numpy.random.default_rng(1), [0.0, 0.0, 0.0], sd=0.6)
    lone = [Runs([0], way.observed[:1], way.left_out[:, :1]) for way in ways]
    assert difference(lone[0], lone[1], lone).seeds_error is None
    borrowed = difference(lone[0], lone[1], [lone[0], lone[1], ways[2]])
    assert (borrowed.seeds_error or 0) ** 2 == pytest.approx(2 * (ways[2].variance - ways[2].noise))
    assert borrowed.high - borrowed.low > 2 * (difference(lone[0], lone[1]).high)


def test_items_that_all_say_the_same_are_as_many_as_they_are() -> None:
    """An F1 of 2/3 on each of ten rows: what is left without one differs by rounding alone."""
    dust = numpy.linspace(0, 1e-16, 10)[:, None]
    found = estimate(Runs([0], numpy.array([2 / 3]), 2 / 3 + dust), share=True)
    wilson = estimate(runs_of([numpy.arange(12) < 8]), share=True)  # twelve rows, of which eight are right
    assert found.low < wilson.low and found.high > wilson.high


def test_seeds_that_differ_as_single_items_do_have_no_spread_beyond_them() -> None:
    """Three items gained and one lost of 41: twice 2 / 41², but for the last bits of the sums."""
    first = numpy.arange(41) < 28
    second = first.copy()
    second[[0, 38, 39, 40]] = [False, True, True, True]
    assert estimate(runs_of([first, second]), share=True).seeds_error == 0


def test_what_has_no_chance_of_its_own_has_no_spread_over_seeds() -> None:
    way, other = family_of(numpy.random.default_rng(2), [0.0, 0.0], sd=0.6)
    baseline = Runs([0], other.observed[:1], other.left_out[:, :1], fixed=True)
    assert estimate(baseline, [way, baseline]).seeds_error == 0
    found = difference(way, baseline, [way, baseline]).seeds_error or 0
    assert found**2 == pytest.approx((way.variance - way.noise) / 3)
    assert difference(baseline, baseline).seeds_error == 0


def test_the_split_enters_as_nadeau_and_bengio_say_and_once() -> None:
    items, folds = 60, numpy.arange(60) % 4
    moved = numpy.array([-1.0, 0.5, 1.5, -1.0])[folds]
    level = numpy.random.default_rng(0).normal(0, 0.1, items)
    for fold in range(4):
        level[folds == fold] -= level[folds == fold].mean()
    found = difference(runs_of(moved + level, folds=folds), runs_of(numpy.zeros(items), folds=folds))
    extra = abs(moved + level).max() ** 2
    known = (((moved + level) ** 2).sum() + extra) / items / (items - 1)
    between = numpy.var([-1.0, 0.5, 1.5, -1.0], ddof=1)
    assert found.split_error == pytest.approx(math.sqrt((between - 4 * known) * (1 / 4 + 1 / 3)))
    assert found.items_error == pytest.approx(math.sqrt(known))
    even = difference(runs_of(level, folds=folds), runs_of(numpy.zeros(items), folds=folds))
    assert even.split_error == 0  # the folds differ by no more than their items do


def test_the_items_of_a_single_fold_tell_nothing_of_the_split() -> None:
    hits = numpy.random.default_rng(4).random((2, 60)) < 0.7
    one, none = (estimate(runs_of(hits, folds=folds)) for folds in (numpy.full(60, 2), None))
    assert one == none and one.split_error is None


def test_freedom_is_never_less_than_that_of_the_part_with_least() -> None:
    """A study in two hundred had an interval wider than all possible scores, with a tenth of a degree."""
    chance = numpy.random.default_rng(5)
    for folds in (None, numpy.arange(30) % 3):
        for _ in range(300):
            ways = [runs_of(chance.random((2, 30)) < chance.random(30), folds=folds) for _ in range(2)]
            found = difference(*ways, ways)
            assert found.freedom >= min(found.seeds_freedom, 29 if folds is None else 2)


def test_interval_and_verdict_never_contradict_each_other() -> None:
    chance, seen = numpy.random.default_rng(4), set()
    for number in range(150):
        seeds = int(chance.integers(1, 5))
        ways = family_of(chance, [*chance.normal(0, 0.2, 3)], items=int(chance.integers(2, 60)), seeds=seeds)
        if number % 3 == 0:  # right and wrong
            ways = [runs_of(way.influence.T + way.observed[:, None] > 0) for way in ways]
        for first, second in combinations(ways, 2):
            found = difference(first, second, ways)
            apart = found.low > 0 or found.high < 0
            assert apart == (p_of(found) < 0.05)
            seen.add(apart)
    assert seen == {True, False}


def test_few_items_that_differ_do_not_decide() -> None:
    for only, apart in ((4, False), (8, True)):
        found = difference(runs_of(numpy.arange(100) < 80 + only), runs_of(numpy.arange(100) < 80))
        assert (p_of(found) < 0.05) == apart


def test_intervals_cover_what_they_promise_and_equals_are_rarely_told_apart() -> None:
    chance, studies = numpy.random.default_rng(7), 250
    score, apart, false, power = 0, 0, 0, 0
    for _ in range(studies):
        ways = family_of(chance, [0.0, 0.0, 0.6], sd=0.15)
        found = [difference(one, other, ways) for one, other in combinations(ways, 2)]
        corrected = holm([p_of(each) for each in found])
        score += sum(each.low <= 0 <= each.high for each in (estimate(way, ways) for way in ways[:2]))
        apart += sum(each.low <= gap <= each.high for each, gap in zip(found, (0, -0.6, -0.6), strict=True))
        false += corrected[0] < 0.05
        power += sum(p < 0.05 for p in corrected[1:])
    assert 0.92 <= score / (2 * studies) <= 0.98
    assert 0.93 <= apart / (3 * studies) <= 0.98
    assert false / studies <= 0.06
    assert power / (2 * studies) > 0.7


def test_identical_runs_are_never_told_apart() -> None:
    hits = numpy.random.default_rng(4).random(100) < 0.7
    for count in (1, 3):
        one = runs_of([hits] * count)
        found = difference(one, one)
        assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12)
        assert p_of(found) == 1.0
        assert items_needed(found, 100) == math.inf


def test_scores_that_differ_by_rounding_are_equal() -> None:
    x = numpy.random.default_rng(2).normal(0, 1, 64)
    answers = x + numpy.random.default_rng(3).normal(0, 0.3, 64)

    def run(own: object) -> Runs:
        found = scored("pearson", x.tolist(), own.tolist()) or pytest.fail()  # type: ignore[attr-defined]
        return Runs([0], numpy.array([found.score]), found.left_out[:, None])

    found = difference(run(answers), run(answers + 1e-9 * x))
    assert p_of(found) == 1.0 and items_needed(found, 64) == math.inf
    assert p_of(difference(run(answers), run(answers + 1e-3 * x))) < 0.05


def test_a_plain_difference_is_found_with_paired_and_with_other_seeds() -> None:
    chance = numpy.random.default_rng(5)
    one, other = (runs_of(chance.random((3, 400)) < share) for share in (0.9, 0.6))
    for seeds in ([0, 1, 2], [5, 6, 7]):
        apart = difference(one, Runs(seeds, other.observed, other.left_out))
        assert apart.value == pytest.approx(0.3, abs=0.05)
        assert apart.low > 0 and p_of(apart) < 0.01


def test_as_many_items_as_said_find_the_difference_four_times_in_five() -> None:
    generator = numpy.random.default_rng(6)
    first, second = 0.14, 0.08  # shares of items that only one of the two gets right
    error = math.sqrt((first + second - (first - second) ** 2) / 100)
    needed = items_needed(Estimate(first - second, 0, 0, error, None, math.inf), 100)
    assert needed == pytest.approx((1.959964 + 0.841621) ** 2 * 100 * error**2 / (first - second) ** 2)
    found = 0
    for _ in range(1500):
        b, c, _rest = generator.multinomial(round(needed or 0), [first, second, 1 - first - second])
        found += stats.norm.sf(abs(b - c) / math.sqrt(max(b + c, 1))) * 2 < 0.05
    assert found / 1500 == pytest.approx(0.8, abs=0.03)
    assert (items_needed(Estimate(0.06, 0, 0, error, None, math.inf), 100, tests=3) or 0) > 1.3 * (
        needed or 0
    )


def test_no_number_of_items_helps_against_the_seeds() -> None:
    assert items_needed(Estimate(0.01, 0, 0, 0.01, 0.02, 2), 100) is None


@pytest.mark.parametrize(
    "seeds, split, unsure, freedom",
    [
        (0.02, None, 0.03, 4),
        (0.02, 0.01, 0.03, 4),
        (0.02, None, 0.01, 4),
        (0.02, None, 0.2, 40),
        (0, None, 0, 4),
    ],
)
@pytest.mark.parametrize("tests", [1, 3])
def test_the_items_needed_are_those_at_which_the_power_is_reached(seeds, split, unsure, freedom, tests):
    """Of the variance the items' part shrinks with their number, and so does what they add to the seeds'."""
    found = Estimate(-0.12, 0, 0, 0.08, seeds, 9, unsure, freedom, split)
    fewer = 100 / (items_needed(found, 100, tests) or math.nan)
    fixed = seeds**2 + (split or 0) ** 2
    total = fewer * 0.08**2 + fixed
    told = fixed + fewer * max(0, unsure**2 - seeds**2)
    degrees = freedom * max(1, total / told) ** 2 if told else math.inf
    reach = stats.t.ppf(1 - 0.025 / tests, degrees) + stats.norm.ppf(0.8)
    assert reach * math.sqrt(total) == pytest.approx(0.12)


def test_of_a_difference_as_plain_as_day_two_items_tell_it() -> None:
    assert items_needed(Estimate(1.0, 0, 0, 1e-3, None, math.inf), 100) == 2.0
    assert items_needed(Estimate(1e-5, 0, 0, 0.1, None, math.inf), 100) == pytest.approx(7.85e10, rel=0.01)
    assert items_needed(Estimate(1e-6, 0, 0, 0.1, None, math.inf), 100) is None  # beyond all data


def test_the_smallest_difference_is_the_inverse_of_the_items_needed() -> None:
    for seeds, tests, freedom in ((1, 3, math.inf), (3, 3, 4), (9, 36, 12), (9, 1, 8)):
        least = smallest_difference(500, seeds, tests=tests)
        differ = 2 * 0.2 * 0.8 * 0.5
        items_error = math.sqrt(differ * (0.2 + 0.8 / seeds) / 500)
        seeds_error = math.sqrt(2 / seeds) * 0.01
        unsure = math.hypot(math.sqrt(differ * 0.8 / seeds / 500), seeds_error)
        found = Estimate(least, 0, 0, items_error, seeds_error, 1, unsure, freedom)
        assert items_needed(found, 500, tests=tests) == pytest.approx(500)


def test_more_items_and_more_seeds_find_less() -> None:
    assert smallest_difference(400, 3) > smallest_difference(4000, 3) > smallest_difference(4000, 5)
    assert smallest_difference(400, 3, tests=6) > smallest_difference(400, 3, tests=3)
    for words in ({"items": 1, "seeds": 1}, {"items": 9, "seeds": 0}, {"items": 9, "seeds": 1, "tests": 0}):
        with pytest.raises(ConfigError, match="is not possible"):
            smallest_difference(**words)
    for name, value in (("error_rate", 1.0), ("seed_spread", -0.1)):
        with pytest.raises(ConfigError, match=f"{name}={value:g}"):
            smallest_difference(100, 1, **{name: value})


def test_calibration_by_hand() -> None:
    found = calibration([0.6, 0.6, 0.8, 0.999], [True, False, True, False], bins=2)
    assert found.bins == [(0.6, 0.5, 2), (pytest.approx(0.8995), 0.5, 2)]
    assert found.error == pytest.approx((0.1 * 2 + 0.3995 * 2) / 4)
    assert found.brier == pytest.approx((0.16 + 0.36 + 0.04 + 0.999**2) / 4)
    assert (found.sure, found.wrong_though_sure) == (0.25, 1.0)


def test_bins_hold_equally_many() -> None:
    generator = numpy.random.default_rng(8)
    p = generator.random(157) / 2 + 0.5
    hits = generator.random(157) < p
    order = numpy.argsort(p)
    parts = numpy.array_split(order, 15)
    expected = sum(len(part) * abs(p[part].mean() - hits[part].mean()) for part in parts) / 157
    found = calibration(p.tolist(), hits.tolist())
    assert max(n for *_, n in found.bins) - min(n for *_, n in found.bins) <= 1
    assert found.error == pytest.approx(expected)
