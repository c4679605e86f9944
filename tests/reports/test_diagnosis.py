"""Overfitting is named with its beginning, a healthy run is not; curves are read between their points."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch

from ftrun.reports.diagnosing.calibration import calibration
from ftrun.reports.diagnosing.diagnosis import Diagnosis, diagnose
from ftrun.reports.diagnosing.evidence import Evidence, smooth, unsteady
from ftrun.reports.statistics.curves import at_least_times, crossings, monotone, reaching, times_fewer

CONFIG: dict[str, Any] = {"strategy": "full", "train": {"patience": None}, "task": {"subset": None}}
ROWS = {"rows": {"train": 300, "validation": 400, "test": 1000}}


def of(
    config: dict[str, Any], lines: list[dict[str, Any]], result: dict[str, Any], found: Any = None, **own: Any
) -> Diagnosis:
    return diagnose(Evidence(config, lines, result, own.pop("metric", "accuracy"), found, **own))


def lines(evals: list[float], trains: list[float]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, (held, seen) in enumerate(zip(evals, trains, strict=True), 1):
        found.append({"step": 10 * number, "epoch": float(number), "train_loss": seen})
        found.append({"step": 10 * number, "epoch": float(number), "eval_loss": held})
    return found


FALLING = [0.7, 0.6, 0.45, 0.3, 0.2, 0.1, 0.05, 0.02]
OVER = lines([0.69, 0.6, 0.55, 0.58, 0.66, 0.78, 0.9, 1.1], FALLING)
HEALTHY = lines([0.69, 0.6, 0.55, 0.52, 0.51, 0.5, 0.505, 0.5], FALLING)


def test_a_rise_of_validation_loss_is_named_with_its_epoch() -> None:
    found = of(CONFIG, OVER, ROWS)
    assert found.epoch == 3
    assert found.text.startswith(
        "overfits: validation loss rises from 0.550 at epoch 3 to 1.100 while training loss falls from 0.583"
    )
    assert found.text.endswith(
        "Settings to try: train.patience=2, strategy=freeze, strategy=lora, protect=l2sp."
    )


def test_a_healthy_run_is_not_accused() -> None:
    result = ROWS | {"train_accuracy": 0.84, "eval_accuracy": 0.82}
    sure = calibration([0.6 + 0.4 * i / 1000 for i in range(1000)], [i % 5 != 0 for i in range(1000)])
    assert of(CONFIG, HEALTHY, result, sure).text == "no sign of underfitting or overfitting"
    both_rise = lines([0.5, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.8])  # a rate too high, not overfitting
    assert of(CONFIG, both_rise, ROWS).signs == []


def test_a_loss_that_jumps_is_not_one_that_rises() -> None:
    """Of few rows of a rare class a handful carries the loss, which jumps by more than it has risen."""
    jumps = [0.125, 0.062, 0.061, 0.034, 0.071, 0.15, 0.062, 0.064, 0.066, 0.066]
    trains = [0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.004, 0.003, 0.002, 0.001]
    few = {"rows": {"train": 802, "validation": 99, "test": 99}}
    assert of(CONFIG, lines(jumps, trains), few).signs == []
    steady = [0.125, 0.062, 0.055, 0.056, 0.058, 0.06, 0.066, 0.073, 0.078, 0.08]
    assert of(CONFIG, lines(steady, trains), few).text.startswith(
        "overfits: validation loss rises from 0.056"
    )


@pytest.mark.parametrize("size", [0.01, 0.3])
def test_how_unsteady_a_curve_is(size: float) -> None:
    """As far as differences of smoothed values spread where nothing but noise is in them."""
    chance = random.Random(0)
    differences, found = [], []
    for _ in range(2000):
        values = [0.02 * at**2 + chance.gauss(0, size) for at in range(10)]
        even = smooth(values)
        differences.append(even[8] - even[2] - 0.02 * (8**2 - 2**2))
        found.append(unsteady(values) ** 2)
    spread = math.sqrt(sum(each**2 for each in differences) / len(differences))
    expected = math.sqrt(sum(found) / len(found))
    bent = math.sqrt(0.04**2 / 9)  # what the curve's own bend adds: its second difference is 0.04
    assert math.sqrt(spread**2 + bent**2) == pytest.approx(expected, rel=0.05)
    assert unsteady([1.0, 2.0]) == 0.0 and unsteady([1.0, 2.0, 3.0, 4.0]) == 0.0


def trained(rows: int, noise: float, epochs: int) -> tuple[list[dict[str, Any]], int]:
    """A perceptron on two noisy classes: what a run would log, and the epoch of its lowest true loss."""
    chance = torch.Generator().manual_seed(0)

    def drawn(count: int, wrong: float) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(2, (count,), generator=chance)
        inputs = torch.randn(count, 20, generator=chance) + 0.2 * (2 * labels[:, None] - 1)
        flips = torch.rand(count, generator=chance) < wrong / 2  # half of the random labels are right
        return inputs, torch.where(flips, 1 - labels, labels)

    seen, held, all_there_is = drawn(rows, noise), drawn(400, noise), drawn(20_000, noise)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    loss_of, found, truth = torch.nn.functional.cross_entropy, [], []
    for epoch in range(1, epochs + 1):
        losses = []
        for start in range(0, rows, 32):
            loss = loss_of(net(seen[0][start : start + 32]), seen[1][start : start + 32])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            line = {"step": epoch, "epoch": float(epoch)}
            found.append(line | {"train_loss": sum(losses) / len(losses)})
            found.append(line | {"eval_loss": loss_of(net(held[0]), held[1]).item()})
            truth.append(loss_of(net(all_there_is[0]), all_there_is[1]).item())
    return found, 1 + truth.index(min(truth))


@pytest.mark.parametrize(
    ("rows", "noise", "epochs"), [(600, 1 / 3, 20), (40, 0.0, 40)], ids=["random labels", "few rows"]
)
def test_planted_overfitting_is_named_with_its_beginning(rows: int, noise: float, epochs: int) -> None:
    found, began = trained(rows, noise, epochs)
    seen = of(CONFIG, found, ROWS)
    assert seen.text.startswith("overfits: validation loss rises from ")
    assert seen.epoch is not None and abs(seen.epoch - began) <= 1


def test_enough_rows_with_right_labels_are_not_accused() -> None:
    found, _ = trained(6000, 0.0, 5)
    assert of(CONFIG, found, ROWS).signs == []


def test_the_gap_counts_when_it_is_beyond_chance() -> None:
    result = ROWS | {"train_accuracy": 1.0, "eval_accuracy": 0.8}
    assert of(CONFIG, [], result).signs == [
        "accuracy is 100.0 % on training rows but 80.0 % on validation rows (gap 20.0 ± 4.0 points)"
    ]
    few = {"rows": {"train": 20, "validation": 20, "test": 20}, "train_accuracy": 0.9, "eval_accuracy": 0.75}
    assert of(CONFIG, [], few).signs == []


def test_probabilities_that_crowd_at_one_are_counted() -> None:
    found = calibration([0.999] * 1000, [i % 5 != 0 for i in range(1000)])
    seen = of(CONFIG, [], ROWS, found)
    assert seen.text.startswith(
        "is overconfident: 100 % of the answers have a probability above 0.99, and of these 20 % are wrong "
        "(ECE 0.199, Brier 0.200). Settings to try: "
    )
    both = of(CONFIG, OVER, ROWS, found).text
    assert both.startswith("overfits and is overconfident: validation loss rises from 0.550")
    assert "epoch 3" in both and both.count("Overfitting began at epoch 3.") == 1
    less = calibration([0.95] * 1000, [i % 5 != 0 for i in range(1000)])
    (sign,) = of(CONFIG, [], ROWS, less).signs
    assert sign.startswith("the mean probability is 95 % but 80 % of the answers are correct (ECE 0.150")


def test_remedies_are_settings_of_the_strategy() -> None:
    lora = CONFIG | {"strategy": "lora", "rank": 8, "dropout": 0.0, "train": {"patience": 2}}
    found = [str(each) for each in of(lora, OVER, ROWS).remedies]
    assert found == ["dropout=0.1", "rank=4 (now 8)", "strategy=linear_probe"]


def test_curves_between_their_points() -> None:
    assert monotone([(1, 0.1), (2, 0.3), (4, 0.2), (8, 0.5)]) == [(1, 0.1), (2, 0.25), (4, 0.25), (8, 0.5)]
    assert reaching([(100, 0.5), (400, 0.7)], 0.6) == pytest.approx(200)
    assert reaching([(100, 0.5), (400, 0.7)], 0.8) is None
    assert reaching([(100, 0.5), (400, 0.7)], 0.4) == 100


@pytest.mark.parametrize("seed", range(5))
def test_a_monotone_curve_is_scikit_learn_s(seed: int) -> None:
    from sklearn.isotonic import IsotonicRegression

    chance = random.Random(seed)
    values = [number / 10 + chance.gauss(0, 1) for number in range(30)]
    expected = IsotonicRegression().fit_transform(list(range(30)), values)
    assert [value for _, value in monotone(list(enumerate(values)))] == pytest.approx(list(expected))


def test_how_many_times_fewer_labels_is_never_extrapolated() -> None:
    control = [(100, 0.5), (1000, 0.6), (10000, 0.7)]
    assert times_fewer([(100, 0.6), (10000, 0.8)], control) == pytest.approx(10)
    assert times_fewer([(100, 0.5), (10000, 0.6)], control) is None
    assert times_fewer([(100, 0.75)], control) is None
    assert times_fewer([(100, 0.7), (1000, 0.9)], control) is None  # it is there at its first point
    assert at_least_times([(100, 0.75)], control) == pytest.approx(100)
    assert at_least_times([(100, 0.7)], control) == pytest.approx(100)
    assert at_least_times([(100, 0.6), (1000, 0.9)], control) is None
    nothing = [(50, 0.5), (100, 0.52), (500, 0.5)]  # learns nothing, whatever the number
    assert at_least_times([(50, 0.6), (100, 0.7)], nothing) == pytest.approx(10)


def test_crossings() -> None:
    probe, full = [(100, 0.7), (400, 0.72), (1600, 0.74)], [(100, 0.6), (400, 0.82), (1600, 0.9)]
    assert crossings(probe, full) == pytest.approx([200])
    assert crossings(full, full) == []
    assert math.isclose(crossings(full, probe)[0], 200)


HALF = ["good"] * 251 + ["bad"] * 249
GOOD = ["good"] * 500
CARD = {"labels": {"train": {"good": 50, "bad": 50}}}  # entropy 0.693
RATES = {"lr": 3e-4, "epochs": 4.0, "max_steps": None, "patience": None}
SHORT = CONFIG | {"train": RATES}


def answered(
    labels: list[Any], answers: list[Any], config: dict[str, Any] = SHORT, **result: Any
) -> Diagnosis:
    return of(config, [], ROWS | result, labels=labels, answers=answers, card=CARD)


def test_a_run_that_answers_one_label_has_learned_nothing() -> None:
    found = answered(HALF, GOOD, train_loss=0.69)
    assert found.untaught and not found.signs and not found.lacking
    assert found.text == (
        "learned nothing: test accuracy is 50.2 %, and always answering the most frequent label gives 50.2 %."
        " Settings to try: train.lr=auto (now 0.0003), train.epochs=12 (now 4)."
    )
    auto = of(SHORT, [], ROWS, labels=HALF, answers=GOOD, asked={"train": {"lr": "auto", "epochs": "auto"}})
    assert auto.text.endswith("a different train.lr (now 0.0003, by auto), train.epochs=12 (now 4, by auto).")
    by_chance = [("good", "bad")[i * 7919 % 503 % 2] for i in range(500)]
    assert answered(HALF, by_chance).untaught
    assert not answered(HALF, GOOD, train_matthews_correlation=0.9).untaught
    assert not answered(["good"] * 9, ["good"] * 9).untaught  # where all labels are one, nothing can be told


def test_a_trivial_answer_underfits_where_the_training_loss_fell() -> None:
    found = answered(HALF, GOOD, train_loss=0.67)  # 3 % below the entropy of the labels
    assert not found.untaught and found.finding == (
        "underfits: test accuracy is 50.2 %, and always answering the most frequent label gives 50.2 %,"
        " though training loss ended at 0.670, where the best constant answer has 0.693"
    )
    assert answered(HALF, GOOD, train_loss=0.685).untaught
    weighted = SHORT | {"task": {"subset": None, "balance": "weights"}}  # then the entropy is not its floor
    assert answered(HALF, GOOD, weighted, train_loss=0.67).untaught


def test_a_rare_class_that_is_found_is_not_nothing() -> None:
    """Where 95 of 100 rows have one label, accuracy cannot tell."""
    labels, answers = ["no"] * 950 + ["yes"] * 50, ["no"] * 935 + ["yes"] * 40 + ["no"] * 25
    right = sum(a == b for a, b in zip(labels, answers, strict=True)) / 1000
    assert right < 0.965 and not answered(labels, answers).untaught
    assert answered(labels, ["no"] * 1000).untaught


def test_where_nearly_all_rows_have_one_label_the_others_are_to_weigh_more() -> None:
    rare, task = ["no"] * 950 + ["yes"] * 50, {"subset": None, "balance": "none"}
    for labels, balance, first in ((rare, "none", True), (rare, "weights", False), (HALF, "none", False)):
        config = SHORT | {"task": task | {"balance": balance}}
        found = answered(labels, [labels[0]] * len(labels), config)
        assert found.untaught and ("try: task.balance=weights (now none), " in found.text) == first


def test_numbers_are_trivial_without_correlation() -> None:
    numbers = [float(n) for n in range(100)]
    card = {"numbers": {"train": {"mean": 50.0}}}
    for loss, word in ((1.0, "learned nothing"), (0.9, "underfits")):
        result = ROWS | {"train_loss": loss}
        found = of(SHORT, [], result, metric="pearson", labels=numbers, answers=[50.0] * 100, card=card)
        assert found.text.startswith(f"{word}: the correlation of answers and labels on test rows is 0.00")
    near = [n + 30 * math.sin(n) for n in numbers]
    result = ROWS | {"train_loss": 0.2, "train_pearson": 0.9}
    assert of(SHORT, [], result, metric="pearson", labels=numbers, answers=near, card=card).healthy


def test_numbers_of_few_rows_tell_nothing_unless_the_training_rows_do() -> None:
    card = {"numbers": {"train": {"mean": 50.0}}}

    def trained(train: int, pearson: float, test: int) -> Diagnosis:
        rows = {"rows": {"train": train, "validation": 1, "test": test}}
        result = rows | {"train_loss": 0.5, "train_pearson": pearson}
        labels = [float(n) for n in range(test)]
        return of(SHORT, [], result, metric="pearson", labels=labels, answers=[2.0] * test, card=card)

    assert trained(10, 0.98, 1).healthy  # one row has no correlation
    assert trained(10, 0.1, 12).healthy  # of so few rows a network that has learned may have it, too
    assert trained(400, 0.98, 35).healthy
    assert trained(400, 0.05, 1).finding.startswith(
        "underfits: the correlation of answers and labels on training rows is 0.05, though training loss"
    )
    assert "the correlation of answers and labels on test rows" in trained(20, 0.1, 36).finding


def test_nothing_is_told_from_a_handful_of_rows() -> None:
    def rows(count: int) -> dict[str, Any]:
        return {"rows": {"train": 300, "validation": count, "test": count}}

    for count, told in ((1, False), (9, False), (10, True)):
        assert bool(of(CONFIG, OVER, rows(count)).signs) is told
        apart = rows(count) | {"train_accuracy": 1.0, "eval_accuracy": 0.0}
        assert bool(of(CONFIG, [], apart).signs) is told
        sure = calibration([0.9] * count, [False] * count)
        assert bool(of(CONFIG, [], rows(count), sure).signs) is told
        empty = {"metric": "f1", "labels": [["Paris"]] * count, "answers": [""] * count}
        assert of(SHORT, [], rows(count), **empty).learned_too_little is told
        two = (["good", "bad"] * count)[:count]
        one = of(SHORT, [], rows(count), labels=two, answers=["good"] * count, card=CARD)
        assert one.learned_too_little is told
        words = {"baselines": {"tfidf": {"test_accuracy": 1.0}}}
        below = rows(count) | {"train_accuracy": 0.5, "eval_accuracy": 0.5}
        assert of(SHORT, [], below, labels=two, answers=two, card=words).learned_too_little is told


def test_probabilities_that_chance_explains_are_not_overconfident() -> None:
    """Of 12 answers with 0.6, 7.2 ± 1.7 are right where that is calibrated; 5 are within chance, 1 is not."""
    for right, told in ((5, False), (1, True)):
        found = calibration([0.6] * 12, [at < right for at in range(12)])
        rows = {"rows": {"train": 300, "validation": 12, "test": 12}}
        assert of(CONFIG, [], rows, found).overconfident is told


def test_answers_that_are_all_empty() -> None:
    tags, outside = [["B-person", "O"]] * 300, [["O", "O"]] * 300
    card = {"entities": {"train": {"person": 300}}}
    falling = [{"step": 1, "train_loss": 2.5}, {"step": 2, "train_loss": 0.4}, {"step": 3, "train_loss": 0.3}]
    flat = [line | {"train_loss": 2.5} for line in falling]
    own = {"metric": "f1", "labels": tags, "answers": outside, "card": card}
    assert of(SHORT, falling, ROWS, **own).text.startswith(
        "underfits: no entity is predicted in 300 test rows, though training loss fell from 2.500 to 0.350."
    )
    assert of(SHORT, flat, ROWS, **own).text.startswith("learned nothing: no entity is predicted in 300 test")
    spans = {"metric": "f1", "labels": [["Paris"]] * 20, "answers": [""] * 20}
    assert "the answers to all 20 test rows are empty" in of(SHORT, falling, ROWS, **spans).text
    impossible = {"metric": "f1", "labels": [[]] * 20, "answers": [""] * 20}
    assert of(SHORT, falling, ROWS, **impossible).healthy


def test_a_frequent_label_that_is_never_predicted() -> None:
    labels = ["a"] * 100 + ["b"] * 100 + ["c"] * 60 + ["d"] * 20  # d has less than half of an equal share
    answers = ["a"] * 100 + ["b"] * 180
    result = {"train_loss": 0.3, "train_accuracy": 0.7, "eval_accuracy": 0.7}
    found = answered(labels, answers, **result)
    assert found.lacking == ["never predicts c (60 of 280 in the test rows)"]
    assert answered(labels, ["a"] * 100 + ["b"] * 100 + ["c"] * 80, **result).healthy
    wide = result | {"train_accuracy": 0.99}  # then it was learned, and does not generalise
    assert not answered(labels, answers, **wide).lacking and answered(labels, answers, **wide).signs
    tags = [["B-person", "I-person", "O"]] * 200 + [["B-place", "O", "O"]] * 100
    card = {"entities": {"train": {"person": 1, "place": 1}}}
    own = {"metric": "f1", "labels": tags, "answers": [*tags[:200], *[["O"] * 3] * 100], "card": card}
    assert of(SHORT, [], ROWS, **own).lacking == ["never predicts place (100 of 300 in the test rows)"]


def curve(losses: list[float], metric: float = 0.6, rates: str = "linear", **result: Any) -> Diagnosis:
    """The diagnosis of a run with this validation loss at equal distances."""
    last, found = len(losses), []
    for number, loss in enumerate(losses, 1):
        rate = 1e-3 * (1 - number / (last + 1) if rates == "linear" else 1)
        line = {"step": 10 * number, "epoch": float(number)}
        found += [line | {"train_loss": loss, "learning_rate": rate}, line | {"eval_loss": loss}]
    scores = {
        "train_accuracy": metric,
        "eval_accuracy": metric,
        "train_loss": losses[-1],
        "eval_loss": losses[-1],
    }
    return of(SHORT, found, ROWS | {"best_step": 10 * last} | scores | result)


def spent(steps: int) -> list[float]:
    """The share of all learning that a linear decay has done by each of these steps."""
    return [1 - (1 - step / steps) ** 2 for step in range(1, steps + 1)]


def test_a_loss_that_still_falls_as_fast_as_its_rate_allows() -> None:
    steady = curve([2.3 - share for share in spent(10)])
    assert steady.text == (
        "underfits: validation loss was still falling at the end (1.550 to 1.300 in the second half), and"
        " accuracy is 60.0 % on training rows. Settings to try: train.epochs=12 (now 4), train.lr=0.0009 (now"
        " 0.0003)."
    )
    flat = curve([0.5 + math.exp(-6 * share) for share in spent(10)])  # it has converged
    assert flat.healthy, flat.text
    assert curve(
        [2.3 - share for share in spent(10)], metric=0.97
    ).healthy  # nothing left to learn from the rows
    bent = [*(2.3 - share for share in spent(10))][:-2] + [1.45, 1.5]
    assert curve(bent).healthy
    few = ROWS["rows"] | {"validation": 20}
    assert curve([2.3 - share for share in spent(10)], rows=few).healthy
    assert curve([2.3 - share for share in spent(10)], train_loss=0.3).healthy  # the rows are being memorised


def test_noise_on_a_plateau_does_not_fall() -> None:
    chance = torch.Generator().manual_seed(0)
    for _ in range(100):
        noise = (0.01 * torch.randn(10, generator=chance)).tolist()
        losses = [0.5 + math.exp(-8 * share) + off for share, off in zip(spent(10), noise, strict=True)]
        assert not curve(losses).lacking


def test_patience_that_ended_a_falling_run_is_to_be_lifted() -> None:
    config = SHORT | {"train": RATES | {"patience": 2}}
    found = lines([2.3 - share for share in spent(10)], [2.3 - share for share in spent(10)])
    result = ROWS | {"train_accuracy": 0.5, "train_loss": 1.3, "eval_loss": 1.3, "best_step": 80}
    assert "train.patience=null (now 2)" in of(config, found, result).text
    whole = SHORT | {"train": RATES | {"patience": 2, "max_steps": found[-1]["step"]}}
    told = of(whole, found, result | {"steps": found[-1]["step"]}).text  # which had all its steps
    assert "train.patience" not in told and f"train.max_steps={3 * found[-1]['step']}" in told
    assert "train.epochs=12 (now 4)" in of(config, found, result | {"best_step": 100}).text


def test_training_rows_that_cost_what_a_constant_costs_or_score_below_words() -> None:
    labels = ["good", "bad"] * 250
    result = {"train_loss": 0.65, "train_accuracy": 0.6, "eval_accuracy": 0.6}
    right = [label if n % 5 < 3 else "good" for n, label in enumerate(labels)]
    assert answered(labels, right, **result).lacking == [
        "training loss ended at 0.650, where the best constant answer has 0.693"
    ]
    assert not answered(labels, right, **result | {"train_loss": 0.55}).lacking
    card = {"baselines": {"tfidf": {"test_accuracy": 0.8}}}
    probe = SHORT | {"strategy": "linear_probe"}

    def beside(top: float) -> Diagnosis:
        scores = ROWS | {"train_accuracy": top, "eval_accuracy": top}
        return of(probe, [], scores, labels=labels, answers=right, card=card)

    assert beside(0.7).text == (
        "underfits: accuracy is 70.0 % on training rows, and TF-IDF has 80.0 % on test rows. Settings to try:"
        " strategy=full, strategy=lora, train.lr=0.0009 (now 0.0003), train.epochs=12 (now 4)."
    )
    assert beside(0.77).healthy
    labels, right = labels[:60], right[:60]
    assert beside(0.72).healthy  # within chance


def test_entities_and_spans_are_measured_by_what_finds_hardly_any() -> None:
    spans = [["a b"], []] * 20

    def of_task(metric: str, top: float, **baselines: float) -> Diagnosis:
        card = {"baselines": {name: {f"test_{metric}": value} for name, value in baselines.items()}}
        scores = ROWS | {f"train_{metric}": top, f"eval_{metric}": top}
        return of(SHORT, [], scores, metric=metric, labels=spans, answers=["a b", ""] * 20, card=card)

    assert of_task("f1", 0.26, nothing=0.45).lacking == [
        "f1 is 26.0 % on training rows, and always giving the empty answer has 45.0 % on test rows"
    ]
    assert of_task("f1", 0.46, nothing=0.45).healthy
    assert of_task("f1", 0.004, tags=0.0).lacking == ["f1 is 0.4 % on training rows"]
    assert of_task("f1", 0.2, tags=0.6).lacking == [
        "f1 is 20.0 % on training rows, and the most frequent tag of each word has 60.0 % on test rows"
    ]
    assert of_task("f1", 0.2, tags=0.1).healthy


def test_a_run_has_one_diagnosis() -> None:
    """What rises overfits, even where a constant costs as much; what is too short underfits despite a gap."""
    hopeless = ROWS | {"train_loss": 0.69, "train_accuracy": 0.6, "eval_accuracy": 0.6}
    assert of(SHORT, OVER, hopeless, labels=HALF, answers=HALF, card=CARD).lacking == []
    gap = hopeless | {"train_accuracy": 0.9}
    adapted = SHORT | {"strategy": "lora", "rank": 8}
    short = of(adapted, [], gap, labels=HALF, answers=HALF, card=CARD)
    assert short.lacking and not short.signs
    assert {each.name for each in short.remedies} == {"train.epochs", "train.lr"}  # and no more weights
    assert of(SHORT, [], gap).signs and not of(SHORT, [], gap).lacking
    sure = calibration([0.999] * 1000, [i % 5 != 0 for i in range(1000)])
    assert not of(SHORT, [], hopeless, sure, labels=HALF, answers=HALF, card=CARD).signs


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (
            {"strategy": "lora", "rank": 8, "dropout": 0.1},
            ["rank=16 (now 8)", "strategy=full", "dropout=0 (now 0.1)"],
        ),
        ({"strategy": "freeze", "bottom": 2, "layers": None}, ["bottom=1 (now 2)", "strategy=full"]),
        ({"strategy": "freeze", "bottom": 2, "layers": "middle"}, ["strategy=full"]),
        ({"strategy": "full", "protect": {"name": "ewc"}}, ["protect=none"]),
        ({"task": {"subset": 100}}, ["task.subset=null"]),
    ],
)
def test_remedies_against_underfitting_give_more_weights(own: dict[str, Any], expected: list[str]) -> None:
    limited = SHORT | own | {"train": RATES | {"max_steps": 20, "lr": 1e-4}}
    result = ROWS | {"train_loss": 0.69, "train_accuracy": 0.6, "eval_accuracy": 0.6}
    found = of(limited, [], result, labels=HALF, answers=HALF, card=CARD).remedies
    first = ["train.max_steps=60 (now 20)", "train.lr=0.0003 (now 0.0001)"]
    assert [str(each) for each in found] == [*first, *expected]
