"""Cross-validation in reports: the folds of a seed are one run over all rows, and what is missing is said."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from finished import finished
from matplotlib.figure import Figure

from ftrun.cli import start
from ftrun.experiments import launch, making
from ftrun.experiments.overrides import fold_words
from ftrun.reports.folding import runs_in_words
from ftrun.reports.groups import groups_of
from ftrun.reports.pages.page import sections_of
from ftrun.reports.plots.training import band, in_common, training
from ftrun.reports.study import Group
from ftrun.reports.table import rows_of
from ftrun.reports.verdicts.sentences import p_value_source
from ftrun.runs.run import Run

FOLDS = 3


def task(fold: int | None, folds: int | None = FOLDS) -> dict[str, Any]:
    return {"kind": "classify", "name": "reviews", "subset": None, "folds": folds, "fold": fold}


def crossed(place: Path, strategies: tuple[str, ...] = ("full", "lora"), seeds: int = 2) -> None:
    """Runs of every fold, each with rows of its own, of which the later folds are harder and larger."""
    for strategy in strategies:
        for seed in range(seeds):
            for fold in range(FOLDS):
                name, items = place / f"{strategy}-{seed}-{fold}", 100 + 50 * fold
                own = {"accuracy": 0.9 - 0.1 * fold, "items": items, "labels": "abc"}
                run = finished(name, strategy, seed, task=task(fold), **own)
                relabelled(run, fold)


def relabelled(run: Run, fold: int) -> None:
    """Other labels in each fold, the same for every run of it."""
    shift = random.Random(fold)
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    for line in lines:
        turn = {name: chr(ord(name) + 1) if name < "c" else "a" for name in "abc"}
        if shift.random() < 0.5:
            line |= {name: turn[line[name]] for name in ("label", "answer")}
    (run.path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def grouped(place: Path) -> tuple[list[Group], list[str]]:
    return groups_of(rows_of([str(place)]))


def answers(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]


def test_folds_of_one_seed_say_that_of_another_nothing_is_known(tmp_path: Path) -> None:
    crossed(tmp_path, seeds=1)
    (group,), _ = grouped(tmp_path)
    assert p_value_source(group) == (
        "p-values: paired t test over test examples and folds; each way has one seed, so that what another"
        " changes is not in them"
    )


def test_the_score_is_that_of_all_out_of_fold_answers(tmp_path: Path) -> None:
    crossed(tmp_path)
    (group,), notes = grouped(tmp_path)
    assert not notes and group.items == 100 + 150 + 200 and len(group.pairs) == 1
    for study in group.studies:
        strategy = study.config["strategy"]
        assert study.name == strategy and [each.row["seed"] for each in study.tried] == [0, 1]
        for each in study.tried:
            seed = each.row["seed"]
            lines = [
                line for fold in range(FOLDS) for line in answers(tmp_path / f"{strategy}-{seed}-{fold}")
            ]
            hits = [line["label"] == line["answer"] for line in lines]
            assert each.scored.score == each.row["test_score"] == pytest.approx(sum(hits) / len(hits))
            assert each.right == hits
            assert each.folds == [0] * 100 + [1] * 150 + [2] * 200
            assert [part.row["fold"] for part in each.runs] == [0, 1, 2]
            costs = [part.row["seconds"] for part in each.runs]
            assert each.row["seconds"] == pytest.approx(sum(costs) / FOLDS)
        by_seed = [each.scored.score for each in study.tried]
        assert study.score.value == pytest.approx(sum(by_seed) / 2)
    assert {runs_in_words(study.tried) for study in group.studies} == {"3 folds × 2 seeds"}


def test_a_score_that_is_no_mean_over_rows_is_of_all_answers_too(tmp_path: Path) -> None:
    from sklearn.metrics import f1_score

    crossed(tmp_path, ("full",), 1)
    runs = sorted(tmp_path.iterdir())
    for path in runs:
        result = json.loads((path / "result.json").read_text())
        own = answers(path)
        score = f1_score(
            *zip(*((line["label"], line["answer"]) for line in own), strict=True), average="macro"
        )
        changed = result | {"metric": "eval_f1", "eval_f1": 0.5, "test_f1": score}
        (path / "result.json").write_text(json.dumps(changed))
    (group,), _ = grouped(tmp_path)
    lines = [line for path in runs for line in answers(path)]
    expected = f1_score([x["label"] for x in lines], [x["answer"] for x in lines], average="macro")
    assert group.metric == "f1" and group.studies[0].score.value == pytest.approx(expected)


def test_a_missing_fold_is_said_and_leaves_out_its_seed_alone(tmp_path: Path) -> None:
    crossed(tmp_path)
    (tmp_path / "full-1-2" / "result.json").unlink()
    (group,), notes = grouped(tmp_path)
    assert notes == ["full, seed 1: fold 2 of 3 is missing"]
    seeds = {study.name: [each.row["seed"] for each in study.tried] for study in group.studies}
    assert seeds == {"full": [0], "lora": [0, 1]}
    (tmp_path / "full-1-1" / "result.json").unlink()
    assert grouped(tmp_path)[1] == ["full, seed 1: folds 1, 2 of 3 are missing"]


def test_one_fold_of_several_ways_is_compared_on_its_rows(tmp_path: Path) -> None:
    crossed(tmp_path)
    for path in tmp_path.iterdir():
        if not path.name.endswith("-1"):
            (path / "result.json").unlink()
    (group,), notes = grouped(tmp_path)
    assert not notes and group.items == 150 and [len(study.tried) for study in group.studies] == [2, 2]
    (alone,), _ = groups_of(rows_of([str(tmp_path / "lora-0-1")]))
    assert alone.items == 150 and alone.studies[0].tried[0].parts == []


def test_training_curves_are_means_over_folds_and_seeds_and_their_captions_say_so(tmp_path: Path) -> None:
    crossed(tmp_path)
    (group,), _ = grouped(tmp_path)
    axes: Any = Figure().subplots()
    study = next(study for study in group.studies if study.config["strategy"] == "full")
    band(axes, study, "eval_accuracy", "epoch", ("black", "-", None), 100.0)
    (line,), (span,) = axes.lines, axes.collections
    # 90, 80 and 70 % − 30/n points, and a point more with the second seed
    assert list(line.get_ydata()) == pytest.approx([80 - 30 / number + 0.5 for number in range(1, 11)])
    ends = span.get_paths()[0].get_extents()
    assert (ends.y0, ends.y1) == pytest.approx((70 - 30, 90 - 3 + 1))
    assert "(mean over folds and seeds; the band spans the lowest and highest)" in training(group)[0].title
    (group,), _ = groups_of(rows_of([*map(str, tmp_path.glob("full-0-*"))]))
    assert "(mean over folds; the band spans" in training(group)[0].title
    (group,), _ = groups_of(rows_of([str(tmp_path / "full-0-0")]))
    assert training(group)[0].title == "Training curves"


def test_folds_evaluated_at_unlike_points_are_read_between_their_own() -> None:
    one, other = [(0.5, 1.0), (1.5, 3.0), (2.5, 5.0)], [(1.0, 10.0), (2.0, 20.0)]
    at, rows = in_common([one, other])
    assert at == [1.0, 1.5, 2.0]
    assert [each for row in rows for each in row] == pytest.approx([2.0, 10.0, 3.0, 15.0, 4.0, 20.0])
    assert in_common([one, []]) == ([], []) == in_common([one, [(3.0, 1.0)]])


def test_the_csv_has_every_fold_with_the_score_of_all(tmp_path: Path, capsys: Any) -> None:
    crossed(tmp_path)
    assert start(["report", str(tmp_path), "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert sorted({row["fold"] for row in rows}) == ["0", "1", "2"] and len(rows) == 12
    assert len({(row["strategy"], row["mean_score"]) for row in rows}) == 2
    assert start(["report", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "3 folds × 2 seeds" in text and " fold=" not in text


def test_folds_have_unlike_rows_and_one_name_and_each_its_diagnosis(tmp_path: Path) -> None:
    crossed(tmp_path)
    for path in tmp_path.iterdir():
        result = json.loads((path / "result.json").read_text())
        result["rows"]["train"] += int(path.name[-1])
        if path.name == "lora-1-2":
            result["train_accuracy"] = 0.4
            result["train_matthews_correlation"] = 0.0
            lines = [line | {"answer": "a"} for line in answers(path)]
            (path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            result["test_accuracy"] = sum(line["label"] == "a" for line in lines) / len(lines)
            metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
            flat = [line | dict.fromkeys(("train_loss", "eval_loss") & line.keys(), 1.1) for line in metrics]
            (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in flat))
        (path / "result.json").write_text(json.dumps(result))
    rows = rows_of([str(tmp_path)])
    assert {row["way"] for row in rows} == {"full", "lora"}
    (group,), _ = groups_of(rows)
    found = {section.title: section.lines for section in sections_of(group)}
    (line,) = found["Runs that learned nothing"]
    assert line.startswith("lora (1 of 6 runs, here seed 1, fold 2) learned nothing: ")
    assert not any(study.untaught for study in group.studies)


def test_a_slice_within_one_fold_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crossed(tmp_path)
    for path in tmp_path.iterdir():
        lines = [line | {"slices": {"source": f"fold {path.name[-1]}"}} for line in answers(path)]
        (path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert start(["report", str(tmp_path)]) == 0
    assert "source=fold 2" in capsys.readouterr().out


def test_one_command_trains_every_fold_and_ends_with_their_score(
    ftrun_inprocess: Any, tmp_path: Path
) -> None:
    words = ["task=digits", "model=mlp", "device=cpu", "task.subset=40", "train.max_steps=2"]
    text = ftrun_inprocess(*words, "task.folds=3", "hydra.run.dir=cv").stdout
    assert "3 of 3 runs finished: ftrun report cv" in text and "3 folds × 1 seed" in text
    assert "digits: accuracy on 1,797 test examples" in text
    rows = {path.parent.name: len(answers(path.parent)) for path in (tmp_path / "cv").glob("*/config.yaml")}
    assert len(rows) == 3 and sum(rows.values()) == 1797
    again = ftrun_inprocess(*words, "task.folds=3", "hydra.run.dir=cv").stdout
    assert again.count("already finished") == 3
    one = ftrun_inprocess(*words, "task.folds=3", "task.fold=1", "hydra.run.dir=one").stdout
    assert "run 0:" not in one
    assert answers(tmp_path / "one") == answers(tmp_path / "cv" / "1-full")


def test_compare_runs_every_fold_and_tunes_on_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tried: list[tuple[str, int, int]] = []

    def one(raw: dict[str, Any], path: Path, again: bool) -> float:
        fold = raw["task"]["fold"]
        tried.append((raw["strategy"], raw["seed"], fold))
        best = {"items": 60 + fold, "accuracy": 0.9 if raw["train"]["lr"] == "auto" else 0.7}
        run = finished(path, raw["strategy"], raw["seed"], task=raw["task"] | {"kind": "classify"}, **best)
        config = (run.path / "config.yaml").read_text()
        (run.path / "config.yaml").write_text(config)
        return 0.0

    monkeypatch.setattr(making, "one", one)
    words = ["task=digits", "model=mlp", "task.folds=3", "--strategies", "full,scratch", "--seeds", "2"]
    assert start(["compare", *words, "--dir", "study"]) == 0
    tuned = {each for each in tried if each[1] == 1000}
    assert tuned == {("full", 1000, 0), ("scratch", 1000, 0)}
    runs = [each for each in tried if each[1] != 1000]
    every = [(way, seed, fold) for seed in (0, 1) for fold in range(3) for way in ("full", "scratch")]
    assert runs == every
    text = capsys.readouterr().out
    assert "trials on the first fold: " in text and "3 folds × 2 seeds" in text


def test_folds_are_spelt_out_where_none_is_named() -> None:
    assert fold_words(["task.folds=3"]) == ["task.fold=0", "task.fold=1", "task.fold=2"]
    assert fold_words(["task.folds=3", "task.fold=1"]) == fold_words(["task.folds=null"]) == []
    assert launch.every_fold(["-m", "rank=1,2", "task.folds=2"])[-1] == "task.fold=0,1"
    assert launch.every_fold(["task.folds=2"])[0] == "-m"
