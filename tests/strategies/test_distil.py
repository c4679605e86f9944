"""Distillation against its formulas, against plain training, and its teacher's labels and rows."""

from types import SimpleNamespace

import pytest
import torch
from lab import ran, settings, toy
from torch.nn.functional import kl_div, mse_loss

from ftrun.errors import ConfigError, DataError
from ftrun.experiments.inference import FinishedRun
from ftrun.runs.run import Run
from ftrun.settings.seeds import stream
from ftrun.tasks.data import TaskData
from ftrun.tasks.parts import taught
from ftrun.tasks.parts.teacher import Teacher, refuse_unfit

STEPS = "train.max_steps=6", "train.eval_every=3", "train.lr=1e-2", "baselines=false"
DIGITS = "task=digits", "model=mlp", "task.subset=100", "device=cpu", *STEPS


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def teacher(place):
    """A run on digits."""
    ran(place / "teacher", settings(*DIGITS, "strategy=full", "seed=1"))
    return Run.open(place / "teacher")


def student(path, teacher, *words):
    return ran(path, settings(*DIGITS, "strategy=distil", f"teacher={teacher.path}", *words))


def logits(rows, classes=4):
    return torch.randn(rows, classes, dtype=torch.float64)


def test_the_distance_is_the_divergence_of_the_tempered_answers():
    torch.manual_seed(0)
    ours, theirs = logits(3), logits(3)
    for temperature in (1.0, 2.5):
        own = kl_div(
            (ours / temperature).log_softmax(-1), (theirs / temperature).softmax(-1), reduction="none"
        )
        found = taught.of_classes(ours, theirs, temperature)
        torch.testing.assert_close(found, temperature**2 * own.sum(-1))
    two = torch.stack([ours, torch.zeros_like(ours)], -1), torch.stack([theirs, torch.zeros_like(theirs)], -1)
    each = taught.of_classes(*(pair.flatten(0, 1) for pair in two), 2.5).unflatten(0, ours.shape)
    torch.testing.assert_close(taught.of_labels(ours, theirs, 2.5), each.sum(-1))  # yes or no is two classes
    for apart in (taught.of_classes, taught.of_labels, taught.of_numbers):
        assert (apart(theirs, theirs, 3.0).abs() < 1e-12).all() and (apart(ours, theirs, 3.0) > 0).all()
    torch.testing.assert_close(
        taught.of_numbers(ours, theirs, 9.0).sum(), mse_loss(ours, theirs, reduction="sum")
    )


def test_at_a_high_temperature_centred_logits_are_matched():
    """Hinton et al. 2015, section 2.1."""
    torch.manual_seed(0)
    ours, theirs = logits(3).requires_grad_(), logits(3)
    (gradient,) = torch.autograd.grad(taught.of_classes(ours, theirs, 1e4).sum(), ours)
    centred = [each - each.mean(-1, keepdim=True) for each in (ours.detach(), theirs)]
    torch.testing.assert_close(gradient, (centred[0] - centred[1]) / 4, rtol=1e-3, atol=1e-6)


def test_without_the_teachers_share_it_is_full_bit_for_bit(teacher, tmp_path):
    full = ran(tmp_path / "full", settings(*DIGITS, "strategy=full"))
    alone = student(tmp_path / "alone", teacher, "alpha=0")
    plain = [
        {k: v for k, v in line.items() if "label_loss" not in k and "teacher_loss" not in k}
        for line in alone.metrics()
    ]
    assert plain == full.metrics()
    with_it = student(tmp_path / "with", teacher, "alpha=0.5")
    assert with_it.metrics()[-1] != full.metrics()[-1]


def test_its_answers_are_those_of_the_run_and_are_learned(teacher, tmp_path):
    finished = FinishedRun(teacher)
    data = TaskData.read(finished.settings.task, 0)
    found = Teacher(teacher.path, torch.device("cpu")).lesson(data, 1.0, 1.0)
    rows = found.dataset("train")
    batch = rows.collate(rows.examples[5:9])
    with torch.no_grad():
        expected = finished.model(**batch["inputs"])
    torch.testing.assert_close(batch["teacher"], expected)
    assert (batch["teacher_weights"] == 1).all()
    alone = student(tmp_path / "alone", teacher, "alpha=1", "temperature=1", "train.max_steps=40")
    parts = [line["train_teacher_loss"] for line in alone.metrics() if "train_teacher_loss" in line]
    assert parts[-1] < 0.2 * parts[0]


def test_a_teacher_with_another_tokenizer_and_order_of_labels_answers_the_same_rows(
    toy_files, tiny_dir, tmp_path
):
    words = "strategy=full", "train.max_steps=4", "baselines=false", "task.labels=[positive,negative]"
    run = ran(tmp_path / "teacher", toy(toy_files, tiny_dir("roberta"), *words))
    own = toy(toy_files, tiny_dir("bert"), "strategy=distil", f"teacher={run.path}")
    data = TaskData.read(own.task, 0)
    from ftrun.models.load import load

    data.encode(load(own.model, data.spec, stream(0, "init")).tokenizer, "train")
    notes = list(data.rows.notes)
    rows = Teacher(run.path, torch.device("cpu")).lesson(data, 0.5, 2.0).dataset("train")
    assert data.rows.notes == notes
    batch = rows.collate(rows.examples[:3])
    finished = FinishedRun(run)
    theirs = finished.data()
    with torch.no_grad():
        expected = finished.model(**(train := theirs.dataset("train")).collate(train.examples[:3])["inputs"])
    assert data.spec.labels == ("negative", "positive")
    torch.testing.assert_close(batch["teacher"], expected[:, [1, 0]], rtol=1e-4, atol=1e-5)


def test_numbers_are_taught_in_the_units_of_the_student(teacher):
    own = SimpleNamespace(config=SimpleNamespace(target_mean=10.0, target_scale=4.0))
    config = {"problem_type": "regression", "target_mean": 8.0, "target_scale": 2.0}
    answers = Teacher.answers(own, SimpleNamespace(spec=SimpleNamespace(config=config)))
    assert answers(torch.tensor([[0.0], [1.0]])).tolist() == [[1.0], [3.0]]  # 10 and 14


def test_classes_of_other_weights_weigh_in_both_parts():
    hard = taught.Objective(lambda outputs, batch: taught.Loss((outputs[:, 0] * batch["labels"]).sum()))
    objective = taught.Taught(hard, taught.of_numbers, 0.25, 1.0).train()
    batch = {
        "labels": torch.ones(2),
        "teacher": torch.zeros(2, 1),
        "teacher_weights": torch.tensor([1.0, 3.0]),
    }
    loss = objective.loss(torch.tensor([[1.0], [2.0]]), batch)
    assert float(loss.sum) == 0.75 * 3 + 0.25 * (1 + 3 * 4)
    assert float(objective.eval().loss(torch.tensor([[1.0], [2.0]]), batch).sum) == 3


def test_what_is_no_teacher_is_refused(teacher, tmp_path, toy_files, tiny_dir):
    def said(*words):
        with pytest.raises(ConfigError) as caught:
            ran(tmp_path / "run", settings(*DIGITS, "strategy=distil", *words))
        return str(caught.value)

    assert "needs a teacher: teacher=RUN" in said()
    (tmp_path / "empty").mkdir()
    assert "empty is no run directory" in said(f"teacher={tmp_path}/empty")
    assert "alpha is between 0 and 1, not 2" in said("alpha=2")
    assert "temperature is above 0, not 0" in said("temperature=0")
    other = said(f"teacher={teacher.path}", "task.classes=[1,2,3]")
    assert "other labels than this task's: it has '0', '4', '5'" in other
    with pytest.raises(ConfigError, match="trained on a task of kind digits, and this one is classify"):
        refuse_unfit(teacher.path, toy(toy_files, tiny_dir("bert"), "strategy=full"))


def test_a_teacher_that_has_seen_the_test_rows_is_said_or_refused(toy_files, tiny_dir, tmp_path, capsys):
    swapped = f"task.train={toy_files}/test.csv", f"task.test={toy_files}/train.csv"
    words = "strategy=full", "train.max_steps=1", "baselines=false"
    run = ran(tmp_path / "teacher", toy(toy_files, tiny_dir("bert"), *words, *swapped))
    capsys.readouterr()
    own = TaskData.read(toy(toy_files, tiny_dir("bert"), "strategy=full").task, 0)
    teacher = Teacher(run.path, torch.device("cpu"))
    teacher.refuse_leaks(own)
    assert "warning: LEAK: 40 of 40 test rows are among the rows that teacher=" in capsys.readouterr().out
    for way in ("error", "drop"):
        own.task.leaks = way
        with pytest.raises(DataError, match="possible: a teacher that was trained on this task's own splits"):
            teacher.refuse_leaks(own)
    good = Teacher(run.path, torch.device("cpu"))
    good.refuse_leaks(TaskData.read(good.settings.task, 0))  # its own splits
    assert "LEAK" not in capsys.readouterr().out
