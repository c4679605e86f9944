"""Statistics against closed forms, scipy and simulation; identical runs are never told apart."""

from __future__ import annotations

import math

import numpy
import pytest
from scipy import stats
from sklearn import metrics

from ftrun.reports.calibration import calibration
from ftrun.reports.significance import (
    Estimate,
    Runs,
    difference,
    estimate,
    holm,
    items_needed,
    mcnemar,
    p_of,
    resamples,
)
from ftrun.tasks.metrics.rescoring import Scored, scored


def right(values: object) -> Scored:
    hits = numpy.asarray(values, dtype=float)
    return scored("accuracy", ["1"] * len(hits), ["1" if hit else "0" for hit in hits]) or pytest.fail()


def runs_of(found: list[Scored], seeds: list[int] | None = None, count: int = 2000) -> Runs:
    draws = resamples(found, count=count)
    observed = numpy.array([run.score for run in found])
    return Runs(
        seeds or list(range(len(found))), observed, draws, numpy.stack([r.left_out for r in found], 1)
    )


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar(5, 5) == 1.0 == mcnemar(0, 0)
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(9, 1) == mcnemar(1, 9)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("metric", ["accuracy", "f1", "precision", "recall", "matthews_correlation"])
def test_scores_are_those_of_scikit_learn_on_every_resample(metric: str) -> None:
    generator = numpy.random.default_rng(1)
    labels, answers = (generator.choice(list("abc"), 40).tolist() for _ in range(2))
    chosen = numpy.random.default_rng(0).integers(0, 40, (20, 40))
    found = resamples([scored(metric, labels, answers) or pytest.fail()], count=20)[:, 0]
    macro = {"average": "macro", "zero_division": 0}
    for row, value in zip(chosen, found, strict=True):
        pair = [labels[i] for i in row], [answers[i] for i in row]
        function, words = {
            "accuracy": (metrics.accuracy_score, {}),
            "f1": (metrics.f1_score, macro),
            "precision": (metrics.precision_score, macro),
            "recall": (metrics.recall_score, macro),
            "matthews_correlation": (metrics.matthews_corrcoef, {}),
        }[metric]
        assert value == pytest.approx(function(*pair, **words), abs=1e-12)


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


def test_several_labels_per_row() -> None:
    labels, answers = [["a", "b"], ["b"], []], [["b"], ["b"], ["a"]]
    assert (scored("micro_f1", labels, answers) or pytest.fail()).score == pytest.approx(4 / 6)
    assert (scored("subset_accuracy", labels, answers) or pytest.fail()).score == pytest.approx(1 / 3)
    assert scored("f1", [{"text": "x"}], [["y"]]) is None


def test_one_run_is_scipys_bootstrap() -> None:
    hits = numpy.random.default_rng(0).random(60) < 0.8
    found = runs_of([right(hits)])
    mine = estimate(found.observed, found.draws, found.left_out)
    theirs = stats.bootstrap(
        (hits.astype(float),), numpy.mean, n_resamples=2000, method="BCa", rng=numpy.random.default_rng(0)
    )
    assert found.draws[:, 0] == pytest.approx(theirs.bootstrap_distribution)
    assert mine.low == pytest.approx(theirs.confidence_interval.low)
    assert mine.high == pytest.approx(theirs.confidence_interval.high)
    assert mine.items_error == pytest.approx(theirs.standard_error)
    assert mine.seeds_error is None


def test_a_difference_is_scipys_paired_bootstrap() -> None:
    generator = numpy.random.default_rng(3)
    easy = generator.random(80)
    first, second = ((easy + generator.normal(0, 0.2, 80) < chance).astype(float) for chance in (1.3, 0.8))
    draws = resamples([right(first), right(second)], count=2000)
    runs = [
        Runs([0], numpy.array([hits.mean()]), draws[:, [place]], right(hits).left_out[:, None])
        for place, hits in enumerate((first, second))
    ]
    mine = difference(*runs)
    theirs = stats.bootstrap(
        (first, second), lambda a, b, axis: (a - b).mean(axis), paired=True, vectorized=True,
        n_resamples=2000, method="BCa", rng=numpy.random.default_rng(0),
    )  # fmt: skip
    assert mine.value == pytest.approx(first.mean() - second.mean())
    assert mine.low == pytest.approx(theirs.confidence_interval.low)
    assert mine.high == pytest.approx(theirs.confidence_interval.high)
    assert mine.items_error == pytest.approx(theirs.standard_error)
    plain = numpy.quantile(draws[:, 0] - draws[:, 1], [0.025, 0.975])
    assert (mine.low, mine.high) != pytest.approx(tuple(plain))  # neither bias nor acceleration is nothing


@pytest.mark.slow
def test_infinitely_many_items_leave_the_seeds() -> None:
    found = runs_of([right(numpy.arange(200_000) % 100 < share) for share in (80, 82, 87)], count=20)
    mine = estimate(found.observed, found.draws, found.left_out)
    sd = numpy.std([0.80, 0.82, 0.87], ddof=1) / math.sqrt(3)
    assert mine.seeds_error == pytest.approx(sd)
    assert mine.items_error < 0.1 * sd
    assert mine.high - mine.value == pytest.approx(stats.t.ppf(0.975, 2) * sd, rel=0.05)


def test_intervals_cover_what_they_promise() -> None:
    generator = numpy.random.default_rng(7)
    hits = 0
    for _ in range(200):  # items differ in difficulty, seeds in skill
        skill, ease = generator.normal(0, 0.03, 3), generator.normal(0, 0.15, 150)
        chances = numpy.clip(0.7 + skill[:, None] + ease, 0, 1)
        found = runs_of([right(generator.random(150) < row) for row in chances], count=200)
        mine = estimate(found.observed, found.draws, found.left_out)
        hits += mine.low <= 0.7 <= mine.high
    assert 0.92 <= hits / 200


def test_identical_runs_are_never_told_apart() -> None:
    hits = numpy.random.default_rng(4).random(100) < 0.7
    for count in (1, 3):
        one = runs_of([right(hits)] * count)
        found = difference(one, one)
        assert (found.value, found.low, found.high) == (0, 0, 0)
        assert p_of(found) == 1.0
        assert items_needed(found, 100) == math.inf


def test_a_plain_difference_is_found_with_paired_and_with_other_seeds() -> None:
    generator = numpy.random.default_rng(5)
    found = [right(generator.random(400) < chance) for chance in (0.9, 0.88, 0.91, 0.6, 0.62, 0.6)]
    draws = resamples(found, count=2000)
    both = runs_of(found)
    for seeds in ([0, 1, 2], [5, 6, 7]):
        one = Runs([0, 1, 2], both.observed[:3], draws[:, :3], both.left_out[:, :3])
        other = Runs(seeds, both.observed[3:], draws[:, 3:], both.left_out[:, 3:])
        apart = difference(one, other)
        assert apart.value == pytest.approx(0.29, abs=0.05)
        assert apart.low > 0
        assert p_of(apart) < 0.01
    lone = Runs([0], both.observed[:1], draws[:, :1], both.left_out[:, :1])
    assert difference(lone, other).seeds_error is not None


def test_as_many_items_as_said_find_the_difference_four_times_in_five() -> None:
    generator = numpy.random.default_rng(6)
    first, second = 0.14, 0.08  # shares of items that only one of the two gets right
    error = math.sqrt((first + second - (first - second) ** 2) / 100)
    needed = items_needed(Estimate(first - second, 0, 0, error, None, math.inf), 100)
    assert needed == pytest.approx(477, abs=3)
    found = 0
    for _ in range(1500):
        b, c, _rest = generator.multinomial(round(needed or 0), [first, second, 1 - first - second])
        found += stats.norm.sf(abs(b - c) / math.sqrt(max(b + c, 1))) * 2 < 0.05
    assert found / 1500 == pytest.approx(0.8, abs=0.03)


def test_no_number_of_items_helps_against_the_seeds() -> None:
    assert items_needed(Estimate(0.01, 0, 0, 0.01, 0.02, 2), 100) is None


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
