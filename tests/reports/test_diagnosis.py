"""Overfitting is named with its beginning, a healthy run is not; curves are read between their points."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ftrun.reports.calibration import calibration
from ftrun.reports.curves import at_least_times, crossings, monotone, reaching, times_fewer
from ftrun.reports.diagnosis import diagnose, untaught

CONFIG: dict[str, Any] = {"strategy": "full", "train": {"patience": None}, "task": {"subset": None}}
ROWS = {"rows": {"train": 300, "validation": 400, "test": 1000}}


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
    found = diagnose(CONFIG, OVER, ROWS, "accuracy", None)
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
    assert diagnose(CONFIG, HEALTHY, result, "accuracy", sure).text == "no sign of overfitting"
    both_rise = lines([0.5, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.8])  # a rate too high, not overfitting
    assert diagnose(CONFIG, both_rise, ROWS, "accuracy", None).signs == []


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
    seen = diagnose(CONFIG, found, ROWS, "accuracy", None)
    assert seen.text.startswith("overfits: validation loss rises from ")
    assert seen.epoch is not None and abs(seen.epoch - began) <= 1


def test_enough_rows_with_right_labels_are_not_accused() -> None:
    found, _ = trained(6000, 0.0, 5)
    assert diagnose(CONFIG, found, ROWS, "accuracy", None).signs == []


def test_the_gap_counts_when_it_is_beyond_chance() -> None:
    result = ROWS | {"train_accuracy": 1.0, "eval_accuracy": 0.8}
    assert diagnose(CONFIG, [], result, "accuracy", None).signs == [
        "accuracy is 100.0 % on training rows but 80.0 % on validation rows (gap 20.0 ± 4.0 points)"
    ]
    few = {"rows": {"train": 20, "validation": 20, "test": 20}, "train_accuracy": 0.9, "eval_accuracy": 0.75}
    assert diagnose(CONFIG, [], few, "accuracy", None).signs == []


def test_probabilities_that_crowd_at_one_are_counted() -> None:
    found = calibration([0.999] * 1000, [i % 5 != 0 for i in range(1000)])
    seen = diagnose(CONFIG, [], ROWS, "accuracy", found)
    assert seen.text.startswith(
        "is overconfident: 100 % of the answers have a probability above 0.99, and of these 20 % are wrong "
        "(ECE 0.199, Brier 0.200). Settings to try: "
    )
    both = diagnose(CONFIG, OVER, ROWS, "accuracy", found).text
    assert both.startswith("overfits and is overconfident: validation loss rises from 0.550")
    assert "epoch 3" in both and both.count("Overfitting began at epoch 3.") == 1
    less = calibration([0.95] * 1000, [i % 5 != 0 for i in range(1000)])
    (sign,) = diagnose(CONFIG, [], ROWS, "accuracy", less).signs
    assert sign.startswith("the mean probability is 95 % but 80 % of the answers are correct (ECE 0.150")


def test_remedies_are_settings_of_the_strategy() -> None:
    lora = CONFIG | {"strategy": "lora", "rank": 8, "dropout": 0.0, "train": {"patience": 2}}
    found = diagnose(lora, OVER, ROWS, "accuracy", None).remedies
    assert found == ["dropout=0.1", "rank=4", "strategy=linear_probe"]


def test_curves_between_their_points() -> None:
    assert monotone([(1, 0.1), (2, 0.3), (4, 0.2), (8, 0.5)]) == [(1, 0.1), (2, 0.25), (4, 0.25), (8, 0.5)]
    assert reaching([(100, 0.5), (400, 0.7)], 0.6) == pytest.approx(200)
    assert reaching([(100, 0.5), (400, 0.7)], 0.8) is None
    assert reaching([(100, 0.5), (400, 0.7)], 0.4) == 100


def test_how_many_times_fewer_labels_is_never_extrapolated() -> None:
    control = [(100, 0.5), (1000, 0.6), (10000, 0.7)]
    assert times_fewer([(100, 0.6), (10000, 0.8)], control) == pytest.approx(10)
    assert times_fewer([(100, 0.5), (10000, 0.6)], control) is None
    assert times_fewer([(100, 0.75)], control) is None
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


def test_a_run_that_answers_one_label_has_learned_nothing() -> None:
    config = CONFIG | {"train": {"lr": 3e-4}}
    labels = ["good"] * 251 + ["bad"] * 249
    found = untaught(labels, ["good"] * 500, config, {})
    assert found is not None and not found.signs
    assert found.text == (
        "learned nothing: test accuracy is 50.2 %, and always answering the most frequent label gives 50.2 %."
        " Settings to try: a different train.lr (now 0.0003), more train.epochs."
    )
    by_chance = [("good", "bad")[i * 7919 % 503 % 2] for i in range(500)]
    assert untaught(labels, by_chance, config, {}) is not None
    memorised = {"train_matthews_correlation": 0.9}
    assert untaught(labels, ["good"] * 500, config, memorised) is None


def test_a_rare_class_that_is_found_is_not_nothing() -> None:
    """Where 95 of 100 rows have one label, accuracy cannot tell."""
    labels, answers = ["no"] * 950 + ["yes"] * 50, ["no"] * 935 + ["yes"] * 40 + ["no"] * 25
    right = sum(a == b for a, b in zip(labels, answers, strict=True)) / 1000
    assert right < 0.965 and untaught(labels, answers, CONFIG, {}) is None
    assert untaught(labels, ["no"] * 1000, CONFIG | {"train": {"lr": 1e-3}}, {}) is not None
