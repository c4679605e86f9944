"""What auto comes to: numbers that fit rows, network, kind and strategy, and the lines that say why."""

import math

import pytest

from ftrun.settings.auto import Case, settle
from ftrun.settings.habits import Habits, Pace
from ftrun.settings.read import STAND_INS, read
from ftrun.settings.resolve import load_class
from ftrun.strategies.linear_probe import LinearProbe
from ftrun.strategies.lora import Lora
from ftrun.tasks.classify import Classify
from ftrun.tasks.ner import Ner

ALL = frozenset(STAND_INS)


def train(*words):
    from ftrun.experiments.overrides import compose

    return read(compose(list(words))).train


def case(rows=400, **other):
    known = {
        "validation": 100, "width": 384, "pretrained": True, "strategy": "full", "pace": Pace(),
        "habits": Habits(),
    }  # fmt: skip
    return Case(rows=rows, **known | other)


def settled(*words, auto=ALL, **what):
    return settle(train(*words), auto, case(**what))


def steps(found, rows):
    return math.ceil(rows / found["batch_size"]) * found["epochs"]


def test_the_line_that_is_printed():
    _, lines = settled()
    assert lines == [
        "400 rows → 12 epochs of 25 steps, 300 in all, in batches of 16",
        "rate 0.0001 for full on a network 384 wide",
    ]


@pytest.mark.parametrize("rows", [12, 100, 199, 200, 400, 999, 1000, 2000, 5000])
@pytest.mark.parametrize("habits", [Classify.habits, Ner.habits])
def test_few_rows_have_the_steps_of_many_unless_that_takes_too_many_epochs(rows, habits):
    found, _ = settled(rows=rows, habits=habits)
    fewest, most = habits.epochs
    assert fewest <= found["epochs"] <= most
    per_epoch = math.ceil(rows / found["batch_size"])
    if fewest < found["epochs"] < most:
        assert habits.steps <= steps(found, rows) < habits.steps + per_epoch


def test_many_classes_have_steps_for_each():
    few, many = settled(rows=2000, classes=20), settled(rows=2000, classes=80)
    assert few == settled(rows=2000)
    assert steps(few[0], 2000) == 315 and steps(many[0], 2000) == 1260
    assert many[1][0].startswith("2,000 rows of 80 classes → 20 epochs of 63 steps, 1,260 in all")
    assert settled(rows=2000, classes=80, pretrained=False)[0]["epochs"] == many[0]["epochs"]
    assert settled(rows=2000, classes=80, habits=Ner.habits)[0]["epochs"] == many[0]["epochs"]
    assert settled(rows=10**5, classes=80)[0]["epochs"] == 3  # whose 9,375 steps are enough


def test_batches_grow_with_the_rows():
    sizes = [settled(rows=rows)[0]["batch_size"] for rows in (8, 199, 200, 999, 1000, 10**6)]
    assert sizes == [8, 8, 16, 16, 32, 32]
    assert settled("train.micro_batch=64")[0]["batch_size"] == 64


def test_the_rate_falls_with_the_width():
    rates = [settled(width=width)[0]["lr"] for width in (32, 128, 384, 768, 1024)]
    assert rates == sorted(rates, reverse=True) and rates[0] <= 3e-3
    assert 2e-5 <= rates[3] <= 5e-5  # Devlin et al. 2019, A.3, for BERT-base
    assert settled(pretrained=False)[0]["lr"] == 2 * settled()[0]["lr"]
    assert settled(width=None)[0]["lr"] == 1e-4


def test_strategies_have_a_pace_of_their_own():
    full, lora = settled()[0], settled(pace=Lora.pace, strategy="lora")[0]
    assert lora["lr"] == pytest.approx(10 * full["lr"]) and lora["epochs"] == 1.5 * full["epochs"]
    for width in (128, 768):
        assert settled(pace=LinearProbe.pace, width=width)[0]["lr"] == 1e-2


@pytest.mark.parametrize(
    "names, times, steps",
    [
        (("lora", "adapter"), 10, 1.5),
        (("bitfit", "norms"), 20, 1.5),
        (("vera", "ia3", "prompt", "prefix"), 100, 1.5),
        (("full", "freeze", "l2sp", "setfit", "distil"), 1, 1),
    ],
)
def test_the_rates_are_those_that_the_reference_names(names, times, steps):
    """conf/README.md says under `lr`: 3.5e-5 for BERT-base, or so many times that."""
    for name in names:
        found = settled(pace=load_class("strategies", name).pace, strategy=name, width=768)[0]
        assert found["lr"] == pytest.approx(times * 3.5e-5, rel=0.02)
        assert found["epochs"] == math.ceil(steps * 300 / 25)
    probe = settled(pace=LinearProbe.pace, width=768)[0]
    assert probe["lr"] == 1e-2 and probe["epochs"] == 2 * 300 / 25


def test_other_optimizers_have_rates_of_their_own():
    assert settled("train.optimizer=sgd")[0]["lr"] == pytest.approx(1e-2)
    found, lines = settled("train.optimizer=lars", rows=2000)
    assert found["lr"] == pytest.approx(0.3 * 32 / 256, rel=0.02) and "LARS and batches of 32" in lines[1]


def test_a_number_is_a_number():
    assert settled("train.lr=0.5", "train.epochs=2", auto=frozenset())[0] == {}
    found, lines = settled("train.epochs=2", "train.batch_size=10", auto=frozenset({"lr"}))
    assert found == {"lr": 1e-4} and lines == ["rate 0.0001 for full on a network 384 wide"]
    found, lines = settled("train.max_steps=60", rows=400)
    assert found["eval_every"] == 6 and lines[0] == "400 rows → batches of 16"


@pytest.mark.parametrize("validation", [1, 100, 1000, 10**5])
def test_evaluation_costs_at_most_half_the_training(validation):
    found, _ = settled(validation=validation)
    times = steps(found, 400) / found["eval_every"]
    assert times <= 10
    times = math.ceil(times)  # the last step is always followed by one
    assert times == 1 or times * validation / 3 <= 0.5 * steps(found, 400) * found["batch_size"]
    assert found["checkpoint_every"] == steps(found, 400)  # the loop saves after evaluations by the clock
