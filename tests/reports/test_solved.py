"""Runs whose head was solved for among others: no steps, no rate, and a level where others have a curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finished import finished
from matplotlib.figure import Figure

from ftrun.reports.diagnosing.diagnosis import diagnose
from ftrun.reports.diagnosing.evidence import Evidence
from ftrun.reports.groups import groups_of
from ftrun.reports.plots.rates import rates
from ftrun.reports.plots.training import band, step_axis, trained, training
from ftrun.reports.statistics.significance import estimate
from ftrun.reports.study import Group
from ftrun.reports.table import rows_of
from ftrun.reports.verdicts.single import baseline_warnings
from ftrun.reports.verdicts.verdict import verdict
from ftrun.runs.run import Run


def solved(path: Path, seed: int, baselines: dict[str, float] | None = None) -> Run:
    """A run of a linear probe whose third strength, 10.0, is the best one."""
    run = finished(path, "linear_probe", seed, accuracy=0.7, solver="lbfgs", baselines=baselines)
    lines = [
        {"step": number, "l2": 1000.0 / 10 ** (number - 1), "train_loss": 0.1 * number, "eval_loss": loss,
         "eval_accuracy": 0.7 + 0.01 * seed - loss / 10}
        for number, loss in enumerate([0.69, 0.6, 0.5, 0.8, 0.95], 1)
    ]  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.write_json("result.json", run.read_json("result.json") | {"l2": 10.0, "best_step": 3})
    return run


def group_of(place: Path) -> Group:
    groups, _ = groups_of(rows_of([str(place)]))
    return groups[0]


def test_it_is_a_level_beside_the_curves_of_others(tmp_path: Path) -> None:
    for seed in (0, 1):
        solved(tmp_path / f"probe-{seed}", seed)
        finished(tmp_path / f"full-{seed}", "full", seed)
    group = group_of(tmp_path)
    probe = next(study for study in trained(group) if study.config["strategy"] == "linear_probe")
    axes: Any = Figure().subplots()
    band(axes, probe, "eval_accuracy", step_axis(trained(group)), ("black", "-", None), 100.0)
    (line,) = axes.lines
    assert list(line.get_ydata()) == pytest.approx([65.5, 65.5])  # the mean of 65 and 66 %
    assert step_axis(trained(group)) == "epoch"
    assert len(training(group)) == 1 and rates(group) is not None


def test_alone_it_has_no_curves(tmp_path: Path) -> None:
    solved(tmp_path / "probe", 0)
    group = group_of(tmp_path)
    assert training(group) == [] and rates(group) is None


def test_strengths_that_were_tried_are_no_course_of_training(tmp_path: Path) -> None:
    """The loss of the last ones is above the best, and would be a sign of overfitting after steps."""
    run = solved(tmp_path / "probe", 0)
    assert not diagnose(Evidence.of(run, "accuracy")).signs
    lines = [{name: value for name, value in line.items() if name != "l2"} for line in run.metrics()]
    assert len(Evidence(run.config, lines, {}, "accuracy").evaluations) == 5
    assert Evidence.of(run, "accuracy").evaluations == []


def test_no_remedy_is_a_rate_or_a_number_of_steps(tmp_path: Path) -> None:
    config = solved(tmp_path / "probe", 0).config | {"task": {"subset": None}}
    half = ["a", "b"] * 50
    card = {"labels": {"train": {"a": 50, "b": 50}}}
    rows = {"rows": {"train": 100, "validation": 100}, "l2": 1.0}
    result = rows | {"train_loss": 0.69, "train_accuracy": 0.6, "eval_accuracy": 0.6}
    low = diagnose(Evidence(config, [], result, "accuracy", labels=half, answers=half, card=card))
    assert [str(each) for each in low.remedies] == ["strategy=full", "strategy=lora"]
    nothing = diagnose(Evidence(config, [], result, "accuracy", labels=half, answers=["a"] * 100, card=card))
    assert nothing.untaught and [str(each) for each in nothing.remedies] == ["strategy=full", "strategy=lora"]


def test_the_strength_that_validates_best_is_not_said_to_overfit(tmp_path: Path) -> None:
    half = ["a", "b"] * 50
    wide = {"rows": {"train": 100, "validation": 100}, "train_loss": 0.1, "train_accuracy": 1.0}
    config, wide = solved(tmp_path / "probe", 0).config, wide | {"eval_accuracy": 0.6}
    assert diagnose(Evidence(config, [], wide, "accuracy", labels=half, answers=half)).signs
    assert diagnose(Evidence(config, [], wide | {"l2": 1.0}, "accuracy", labels=half, answers=half)).healthy


def test_it_is_not_measured_against_itself() -> None:
    row = {"metric": "accuracy", "test_score": 0.74903895, "l2": 10.0}
    found = {"features": {"test_accuracy": 0.749039}, "tfidf": {"test_accuracy": 0.749039}}
    (line,) = baseline_warnings(row, found)
    assert line.startswith("TF-IDF matches this model")


@pytest.mark.parametrize("features", [0.69, 0.72])
def test_its_verdict_is_not_put_in_doubt_by_its_own_features(tmp_path: Path, features: float) -> None:
    found = {"majority": 0.5, "tfidf": 0.6, "features": features}
    for seed in (0, 1):
        solved(tmp_path / f"probe-{seed}", seed, found)
        finished(tmp_path / f"full-{seed}", "full", seed, accuracy=0.6, baselines=found)
    first = verdict(group_of(tmp_path))[0]
    assert first.startswith("Use linear_probe (") and "; TF-IDF has " in first
    assert "frozen features" not in first and "training may not be worth it" not in first


@pytest.mark.parametrize("same", [True, False])
def test_with_equal_answers_for_all_seeds_it_borrows_no_spread(tmp_path: Path, same: bool) -> None:
    for seed in range(3):
        finished(tmp_path / f"full-{seed}", "full", seed, accuracy=0.7 + 0.05 * seed)
        solved(tmp_path / f"probe-{seed}", seed)
        if same and seed:
            for name in ("predictions.jsonl", "result.json"):
                (tmp_path / f"probe-{seed}" / name).write_bytes((tmp_path / "probe-0" / name).read_bytes())
    group = group_of(tmp_path)
    probe = next(study for study in group.ways if study.config["strategy"] == "linear_probe")
    full = next(study for study in group.ways if study is not probe)
    assert full.score.seeds_error
    assert (probe.score.seeds_error == 0) == same
    alone = estimate(probe.runs, [probe.runs], share=True)
    assert ((probe.score.low, probe.score.high) == (alone.low, alone.high)) == same
    pair = group.pair(full, probe)
    assert pair is not None and pair.found.seeds_error  # full's


def test_others_with_equal_answers_may_vary_with_another_seed(tmp_path: Path) -> None:
    for seed in range(3):
        finished(tmp_path / f"full-{seed}", "full", seed, accuracy=0.7 + 0.05 * seed)
        finished(tmp_path / f"lora-{seed}", "lora", seed)
        (tmp_path / f"lora-{seed}/predictions.jsonl").write_bytes(
            (tmp_path / "lora-0/predictions.jsonl").read_bytes()
        )
    group = group_of(tmp_path)
    assert all(study.score.seeds_error for study in group.ways)


@pytest.mark.parametrize(
    ("own", "known"),
    [
        ({"init": "pretrained"}, True),
        ({"init": "random"}, False),
        ({"init": "pretrained", "compose": {"name": "lora"}}, False),
        ({"init": "pretrained", "subset": 100}, False),
    ],
)
def test_one_seed_of_it_says_all_where_nothing_is_drawn(tmp_path: Path, own: Any, known: bool) -> None:
    run = finished(tmp_path / "probe", "linear_probe", accuracy=0.7, **own)
    run.write_json("result.json", run.read_json("result.json") | {"l2": 10.0})
    group = group_of(tmp_path)
    assert (group.studies[0].score.seeds_error == 0) == known
    assert any(line.startswith("One seed") for line in verdict(group)) != known
