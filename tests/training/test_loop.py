"""The loop: what the optimizer sees, how long it goes on, what it keeps, and how it stops."""

import math

import pytest
import torch
from lab import ran, settings, toy

from ftrun.errors import Diverged, OutOfMemory
from ftrun.runs.run import Run
from ftrun.settings.habits import Habits
from ftrun.settings.schedules import Length, Linear
from ftrun.settings.seeds import stream
from ftrun.tasks.classify import Classify
from ftrun.tasks.metrics.classification import SINGLE_LABEL
from ftrun.tasks.metrics.metric import Metric
from ftrun.tasks.objective import Objective
from ftrun.tasks.parts.labelled import ClassScorer
from ftrun.training import loop as engine
from ftrun.training.gradients.gradient import Gradient
from ftrun.training.state import better, praise


def weights(run):
    from ftrun.training import checkpoint

    place, _ = checkpoint.newest(run.checkpoints / "last")
    return checkpoint.read_tensors(place, "weights")


def apart(one, other):
    """The largest difference between two sets of weights, relative to how far they are from zero."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max(
        float((first[k] - second[k]).abs().max() / first[k].abs().max().clamp(min=1e-3)) for k in first
    )


def test_the_micro_batch_never_changes_the_result(toy_files, still_dir, tmp_path):
    """13 rows, so that the last batch is a partial one: it is stepped, and divided by what it holds."""
    words = "task.subset=13", "train.batch_size=8", "train.lr=1e-3", "train.clip=null"
    whole = ran(tmp_path / "whole", toy(toy_files, still_dir, *words))
    assert whole.read_json("result.json")["steps"] == math.ceil(13 / 8) * 2
    for size in (1, 3, 8):
        parts = ran(tmp_path / f"micro{size}", toy(toy_files, still_dir, *words, f"train.micro_batch={size}"))
        assert apart(whole, parts) < 1e-4
        pairs = zip(whole.metrics(), parts.metrics(), strict=True)
        assert all(a[k] == pytest.approx(b[k], rel=1e-4, abs=1e-5) for a, b in pairs for k in a)


@pytest.mark.parametrize(
    ("sampling", "own", "pool"),
    [
        ("auto", "group_by_length", 50),
        ("auto", "random", 1),
        ("random", "group_by_length", 1),
        ("group_by_length", "random", 50),
    ],
)
def test_batches_are_of_like_length_or_of_any(
    toy_files, still_dir, tmp_path, monkeypatch, sampling, own, pool
):
    monkeypatch.setattr(Classify, "habits", Habits(order=own))
    honest, seen = engine.EpochBatches, []
    monkeypatch.setattr(engine, "EpochBatches", lambda *a: seen.append(a[-1]) or honest(*a))
    ran(tmp_path / "run", toy(toy_files, still_dir, "task.subset=16", f"train.sampling={sampling}"))
    assert set(seen) == {pool}


def test_out_of_memory_halves_the_micro_batch_and_goes_the_same_way(
    toy_files, still_dir, tmp_path, monkeypatch, capsys
):
    whole = ran(tmp_path / "whole", toy(toy_files, still_dir, "train.lr=1e-3"))
    honest = Objective.loss

    def loss(self, outputs, batch):
        if len(batch["labels"]) > 4 and outputs.requires_grad:
            raise torch.OutOfMemoryError("planted")
        return honest(self, outputs, batch)

    monkeypatch.setattr(Objective, "loss", loss)
    small = ran(tmp_path / "small", toy(toy_files, still_dir, "train.lr=1e-3"))
    assert small.read_json("cost.json")["micro_batch"] == 4
    assert apart(whole, small) < 1e-4
    assert "train.micro_batch 16 → 8" in capsys.readouterr().out


def test_when_one_example_does_not_fit_it_is_said(toy_files, still_dir, tmp_path, monkeypatch):
    def loss(self, outputs, batch):
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(Objective, "loss", loss)
    with pytest.raises(OutOfMemory, match="out of memory with train.micro_batch=1") as caught:
        ran(tmp_path / "run", toy(toy_files, still_dir, "baselines=false"))
    assert caught.value.exit_code == 4


def test_a_run_that_diverges_stops_with_a_report(toy_files, still_dir, tmp_path, monkeypatch):
    honest = Gradient.accumulate

    def accumulate(self, rows, state):
        loss, count = honest(self, rows, state)
        if state.step >= 2:
            for parameter in self.model.trained().values():
                parameter.grad *= math.nan
        return loss, count

    monkeypatch.setattr(Gradient, "accumulate", accumulate)
    with pytest.raises(Diverged, match="at step 4, 3 steps in a row.*lower train.lr"):
        ran(tmp_path / "run", toy(toy_files, still_dir))
    run = Run.open(tmp_path / "run")
    report = run.read_json("divergence.json")
    assert len(report["rows_of_the_last_batch"]) == 16
    assert run.state == "failed"


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(toy_files, tiny_dir, tmp_path):
    runs = [
        ran(tmp_path / name, toy(toy_files, tiny_dir("bert"), f"seed={seed}"))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    texts = [(run.path / "metrics.jsonl").read_text() for run in runs]
    assert texts[0] == texts[1] != texts[2]
    assert runs[0].read_json("result.json") == runs[1].read_json("result.json")
    first, second = weights(runs[0]), weights(runs[1])
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_streams_leave_each_other_alone():
    names = ("init", "order", "dropout", "subset")
    assert len({stream(0, name) for name in names} | {stream(1, name) for name in names}) == 8
    assert stream(3, "order", 1) == stream(3, "order", 1) != stream(3, "order", 2)


def test_a_learnable_task_is_learned(toy_files, tiny_dir, tmp_path):
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), "train.epochs=8", "train.lr=3e-3"))
    assert run.read_json("result.json")["test_accuracy"] >= 0.9


def test_the_best_weights_are_the_ones_scored_and_saved(toy_files, tiny_dir, tmp_path, monkeypatch):
    """The rate is so high after the first epoch that later weights are worse; the result is not theirs."""
    scores = iter([{"accuracy": 0.9}, {"accuracy": 0.5}, {"accuracy": 0.5}, {"accuracy": 0.1}])
    honest = ClassScorer.score

    def score(self, rows):
        planted = next(scores, None) if len(rows) > 8 else None
        return {**honest(self, rows), **(planted or {})}

    monkeypatch.setattr(ClassScorer, "score", score)
    rates = "train.epochs=3", "train.lr=1e-2", "baselines=false"  # which are scored, too
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *rates))
    result = run.read_json("result.json")
    per_epoch = result["steps"] // 3
    assert result["best_step"] == per_epoch
    from ftrun.training import checkpoint

    best, _ = checkpoint.newest(run.checkpoints / "best")
    assert checkpoint.read_state(best)["step"] == per_epoch
    assert result["reload_difference"] < 1e-5


def planted(monkeypatch, *accuracies):
    """Validation scores that are known; afterwards the last one."""
    honest, scores = ClassScorer.score, iter(accuracies)

    def score(self, rows):
        if len(rows) > 8:
            planted.last = next(scores, planted.last)
        return {**honest(self, rows), "accuracy": planted.last}

    planted.last = accuracies[0]
    monkeypatch.setattr(ClassScorer, "score", score)
    monkeypatch.setattr("ftrun.data.card.baseline_scores", lambda *all, **more: {})  # they are scored, too
    monkeypatch.setattr("ftrun.experiments.finish.add_features", lambda *all: None)
    monkeypatch.setattr(
        engine, "better", lambda new, best, metric: not best or new["accuracy"] > best["accuracy"]
    )


def test_patience_stops_early(toy_files, tiny_dir, tmp_path, monkeypatch):
    planted(monkeypatch, 0.9, 0.8, 0.7)
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), "train.epochs=9", "train.patience=2"))
    result = run.read_json("result.json")
    assert result["steps"] == result["best_step"] * 3


def test_patience_waits_until_the_score_has_moved(toy_files, tiny_dir, tmp_path, monkeypatch):
    """As F1 of entities, which is 0 until the first one is found."""
    planted(monkeypatch, 0.0, 0.0, 0.0, 0.0, 0.3, 0.2, 0.1)
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), "train.epochs=9", "train.patience=2"))
    result = run.read_json("result.json")
    per_epoch = result["best_step"] // 5
    assert result["best_step"] == 5 * per_epoch and result["steps"] == 7 * per_epoch


def test_patience_waits_until_every_layer_trains(toy_files, tiny_dir, tmp_path, monkeypatch):
    planted(monkeypatch, 0.9, 0.8, 0.7, 0.6, 0.5)
    words = "strategy=lp_ft", "probe=0.5", "train.epochs=8", "train.patience=1"
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words))
    result = run.read_json("result.json")
    assert result["steps"] == 5 * result["best_step"]  # the head alone trains for the first four


@pytest.mark.parametrize(
    ("new", "best", "direction", "expected"),
    [
        (0.8, 0.7, "max", True),
        (0.7, 0.8, "max", False),
        (0.7, 0.8, "min", True),
        (math.nan, 0.1, "max", False),
        (math.nan, None, "max", False),
        (0.1, None, "min", True),
    ],
)
def test_better_knows_the_direction_and_nan(new, best, direction, expected):
    former = {} if best is None else {"m": best, "loss": 1.0, "step": 1}
    assert better({"m": new, "loss": 1.0}, former, Metric("m", direction)) is expected


def test_a_tie_goes_to_the_lower_loss_then_to_the_earlier():
    best = {"m": 0.8, "loss": 1.0, "step": 1}
    assert better({"m": 0.8, "loss": 0.9}, best, Metric("m", "max"))
    assert not better({"m": 0.8, "loss": 1.0}, best, Metric("m", "max"))
    assert not better({"m": 0.8, "loss": 1.1}, best, Metric("m", "max"))


def length(rows, *words):
    return Length.of(settings("task=classify", "task.train=x.csv", *words).train, rows)


def test_the_number_of_steps_is_the_true_one():
    got = length(70, "train.batch_size=32", "train.epochs=3", "train.warmup=0.1")
    assert (got.per_epoch, got.total, got.warmup, got.eval_every) == (3, 9, 1, 3)
    assert length(70, "train.batch_size=32", "train.epochs=0.5").total == 2
    assert length(70, "train.max_steps=4").total == 4
    assert length(70, "train.max_steps=4000").total == 4000  # whatever train.epochs says
    assert length(70, "train.epochs=10", "train.eval_every=0.25", "train.batch_size=7").eval_every == 25
    assert length(70, "train.epochs=10", "train.eval_every=7", "train.warmup=12").warmup == 12


def test_the_log_has_at_least_twenty_points_and_the_rate_follows_the_schedule(toy_files, tiny_dir, tmp_path):
    words = "train.epochs=6", "train.batch_size=8", "train.warmup=0.2", "train.lr=1e-4"
    experiment = toy(toy_files, tiny_dir("bert"), *words)
    run = ran(tmp_path / "run", experiment)
    lines = [line for line in run.metrics() if "learning_rate" in line]
    total = run.read_json("result.json")["steps"]
    assert len(lines) >= min(20, total)
    warmup = round(0.2 * total)
    for line in lines:
        expected = experiment.train.lr * Linear().factor(line["step"] - 1, total, warmup)
        assert line["learning_rate"] == pytest.approx(expected, rel=1e-9)
    assert max(line["learning_rate"] for line in lines) == pytest.approx(experiment.train.lr)


@pytest.mark.parametrize(
    ("name", "score", "baseline", "first", "expected"),
    [
        ("accuracy", 0.5, 0.5, True, "no better than the most frequent label"),
        ("accuracy", 0.5, 0.5, False, ""),
        (
            "accuracy",
            0.5000004,
            0.5,
            True,
            "no better than the most frequent label",
        ),  # data.json has six digits
        ("accuracy", 0.51, 0.5, True, "best so far"),
        ("f1", 0.0, None, True, ""),
        ("f1", 0.01, None, True, "best so far"),
        ("loss", 0.8, 0.7, True, "no better than the most frequent label"),
        ("loss", 0.6, 0.7, True, "best so far"),
        ("loss", 0.0, None, True, "best so far"),
    ],
)
def test_a_score_that_needs_no_training_is_not_praised(name, score, baseline, first, expected):
    assert praise(score, first, SINGLE_LABEL[name], baseline, "most frequent label").strip() == expected


def test_what_is_praised_is_better_than_the_baseline_of_the_data_card(toy_files, still_dir, tmp_path, capsys):
    words = "train.lr=1e-3", "train.eval_every=1", "baselines=true"
    run = ran(tmp_path / "run", toy(toy_files, still_dir, *words))
    card = run.read_json("data.json")["baselines"]["majority"]["eval_accuracy"]
    said = [line for line in capsys.readouterr().out.splitlines() if "eval_accuracy" in line]
    praised = [line for line in said if line.endswith("best so far")]
    assert len(said) > 2
    assert all(float(line.split("eval_accuracy ")[1].split()[0]) > card - 5e-5 for line in praised)
    assert sum("no better than the most frequent label" in line for line in said) <= 1
