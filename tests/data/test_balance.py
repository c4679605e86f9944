"""Unequal classes: weights in the loss as in torch, or rows drawn equally often; scores as they are."""

import csv
import random
from collections import Counter

import numpy
import pytest
import torch
from lab import ran, settings, toy
from sklearn.utils.class_weight import compute_class_weight
from toys import toy_rows

from ftrun.data.balance import balanced_rows, class_weights
from ftrun.errors import ConfigError
from ftrun.experiments import single as experiment
from ftrun.tasks.parts.labelled import weights_of
from ftrun.training.loop import Loop
from ftrun.training.step import Step

TARGETS = [0] * 30 + [1] * 9 + [3]


@pytest.fixture
def files(toy_files, tmp_path):
    """The toy task with one positive training row for every six negative ones."""
    place = tmp_path / "files"
    place.mkdir()
    for name in ("validation.csv", "test.csv"):
        (place / name).write_text((toy_files / name).read_text())
    rows = toy_rows(84, random.Random(1))
    kept = [row for number, row in enumerate(rows) if row[1] == "negative" or number < 14]
    with (place / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *kept])
    return place


@pytest.fixture
def loops(monkeypatch):
    made = []

    def make(*given):
        made.append(Loop(*given))
        return made[-1]

    monkeypatch.setattr(experiment, "loop_of", lambda strategy: make)
    return made


def test_weights_are_those_of_scikit_learn():
    expected = compute_class_weight("balanced", classes=numpy.array([0, 1, 3]), y=TARGETS)
    found = class_weights(Counter(TARGETS), 4)
    assert [found[0], found[1], found[3]] == pytest.approx(list(expected))
    assert found[2] == 1.0
    assert sum(found[target] for target in TARGETS) == pytest.approx(len(TARGETS))


@pytest.mark.parametrize("micro", [1, 3, 16])
def test_the_gradient_is_that_of_torchs_weighted_cross_entropy(files, still_dir, tmp_path, loops, micro):
    words = "task.balance=weights", "train.max_steps=1", f"train.micro_batch={micro}"
    ran(tmp_path / "run", toy(files, still_dir, *words))
    step, data, rows = loops[0].step, loops[0].data, list(range(16))
    step.model.eval()
    step.optimizer.zero_grad()
    total, count = step.backward.accumulate(rows, step.state)
    found = {name: p.grad.clone() for name, p in step.parameters.items()}

    step.optimizer.zero_grad()
    train, weights = data.dataset("train"), weights_of(data)
    assert len(set(weights)) == 2
    batch = train.collate([train[row] for row in rows])
    weighted = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights), reduction="mean")
    loss = weighted(step.model(**batch["inputs"]), batch["labels"])
    loss.backward()
    assert total / count == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, parameter in step.parameters.items():
        assert torch.allclose(found[name], parameter.grad, atol=1e-6, rtol=1e-4), name


def test_evaluation_is_not_weighted(files, still_dir, tmp_path, loops):
    run = ran(tmp_path / "run", toy(files, still_dir, "task.balance=weights", "train.max_steps=1"))
    model, validation = loops[0].step.model.eval(), loops[0].data.dataset("validation")
    batch = validation.collate(validation.examples)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(**batch["inputs"]), batch["labels"])
    assert run.read_json("result.json")["eval_loss"] == pytest.approx(float(loss), rel=1e-4)


def test_draws_take_every_class_equally_often_and_every_row_of_a_class():
    epochs = [balanced_rows(TARGETS, 0, epoch) for epoch in range(7)]
    assert all(len(rows) == len(TARGETS) for rows in epochs)
    for rows in epochs:
        counts = Counter(TARGETS[row] for row in rows)
        assert max(counts.values()) - min(counts.values()) <= 1 and set(counts) == {0, 1, 3}
    drawn = Counter(row for rows in epochs for row in rows)
    large = [drawn[row] for row in range(30)]
    assert min(large) >= 1 and max(large) - min(large) <= 1  # across epochs none is left behind
    assert drawn[39] == pytest.approx(7 * 40 / 3, abs=1)


def test_draws_depend_on_seed_and_epoch_alone():
    assert balanced_rows(TARGETS, 0, 3) == balanced_rows(TARGETS, 0, 3)
    assert balanced_rows(TARGETS, 0, 3) != balanced_rows(TARGETS, 1, 3)
    assert balanced_rows(TARGETS, 0, 3) != balanced_rows(TARGETS, 0, 4)


def test_balanced_rows_are_what_is_trained_on_also_after_a_resume(
    files, tiny_dir, tmp_path, loops, monkeypatch
):
    """A run stopped in the middle of an epoch and resumed ends with the numbers of the one that was not."""
    words = "task.balance=sample", "train.epochs=2", "train.checkpoint_every=2", "train.batch_size=8"
    seen = []
    honest = Step.take
    monkeypatch.setattr(Step, "take", lambda self, rows: (seen.append(rows), honest(self, rows))[1])
    whole = ran(tmp_path / "whole", toy(files, tiny_dir("bert"), *words))
    train = loops[0].data.dataset("train")
    counts = Counter(train[row].target for rows in seen for row in rows)
    assert abs(counts[0] - counts[1]) <= 1

    def stop(self, rows):
        if self.state.step == 5:
            raise KeyboardInterrupt
        return honest(self, rows)

    monkeypatch.setattr(Step, "take", stop)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(toy(files, tiny_dir("bert"), *words), tmp_path / "stopped")
    monkeypatch.setattr(Step, "take", honest)
    experiment.resume(tmp_path / "stopped")
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "stopped")]
    assert metrics[0] == metrics[1] and whole.finished


def test_another_word_is_refused():
    with pytest.raises(ConfigError, match="task.balance"):
        settings("task=classify", "task.train=a.csv", "task.balance=weight")
