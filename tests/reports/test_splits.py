"""Repeated splits in reports: a seed's are one run, and a row counts once however often it is tested."""

from __future__ import annotations

import csv
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from finished import finished

from ftrun.cli import start
from ftrun.experiments import making
from ftrun.experiments.overrides import compose, every_test
from ftrun.reports.folding import runs_in_words
from ftrun.reports.groups import groups_of
from ftrun.reports.mistakes.labels_in_doubt import doubt_lines
from ftrun.reports.statistics.seeds import Runs
from ftrun.reports.statistics.significance import difference, estimate
from ftrun.reports.study import Group
from ftrun.reports.table import rows_of
from ftrun.reports.verdicts.slices import section
from ftrun.runs.config import from_yaml, to_yaml
from ftrun.settings.read import read

POOL, TESTED = 300, 90


def split(
    place: Path,
    strategy: str = "full",
    seed: int = 0,
    number: int = 0,
    fold: int | None = None,
    folds: int | None = None,
    **more: Any,
) -> Path:
    """A run on the test rows that this split seed draws from the pool, or on a fold of these."""
    chosen = random.Random(number).sample(range(POOL), POOL if folds else TESTED)
    rows = chosen[fold::folds] if folds and fold is not None else chosen
    task: dict[str, Any] = {"kind": "classify", "name": "reviews", "subset": None, "split_seed": number}
    task |= {"folds": folds, "fold": fold}
    own = place / f"{strategy}-{seed}-{number}-{fold}"
    finished(own, strategy, seed, items=len(rows), accuracy=0.9 if strategy == "full" else 0.7, task=task)
    lines = answers(own)
    for line, row in zip(lines, rows, strict=True):
        right, label = line["label"] == line["answer"], "ab"[row % 2]
        line |= {"label": label, "answer": label if right else "ba"[row % 2]}
        line |= {"file": "a.csv", "file_row": row + 1, "text": "", **more}
    (own / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return own


def repeated(place: Path, splits: int = 3, seeds: int = 2) -> None:
    for strategy in ("full", "lora"):
        for seed in range(seeds):
            for number in range(splits):
                split(place, strategy, seed, number)


def grouped(place: Path) -> tuple[list[Group], list[str]]:
    return groups_of(rows_of([str(place)]))


def answers(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]


def test_the_score_is_that_of_all_splits_and_rows_count_once(tmp_path: Path) -> None:
    repeated(tmp_path)
    (group,), notes = grouped(tmp_path)
    distinct = {line["file_row"] for run in tmp_path.glob("full-0-*") for line in answers(run)}
    assert not notes and group.items == len(distinct) < 3 * TESTED and len(group.pairs) == 1
    for study in group.studies:
        assert study.name == study.config["strategy"] and len(study.tried) == 2
        for each in study.tried:
            own = [tmp_path / f"{study.name}-{each.row['seed']}-{number}-None" for number in range(3)]
            lines = [line for run in own for line in answers(run)]
            hits = [line["label"] == line["answer"] for line in lines]
            assert each.scored.score == each.row["test_score"] == pytest.approx(sum(hits) / len(hits))
            assert each.right == hits and each.folds == [0] * TESTED + [1] * TESTED + [2] * TESTED
            assert [part.row["split_seed"] for part in each.runs] == [0, 1, 2]
            by_row: dict[int, set[int]] = {}
            for line, row in zip(lines, each.rows or [], strict=True):
                by_row.setdefault(row, set()).add(line["file_row"])
            assert len(by_row) == len(distinct) and all(len(rows) == 1 for rows in by_row.values())
            assert each.ratio == pytest.approx(TESTED / (1000 + 500))
        assert runs_in_words(study.tried) == "3 splits × 2 seeds"
    assert group.pairs[0].test == "paired t test over test examples and seeds and splits"


def test_a_missing_split_is_said_and_the_splits_are_those_that_keep_most_runs(tmp_path: Path) -> None:
    repeated(tmp_path)
    (tmp_path / "full-1-2-None" / "result.json").unlink()
    (group,), notes = grouped(tmp_path)
    assert notes == ["full, seed 1: split_seed=2 is missing of split_seed=0,1,2"]
    assert {study.name: study.runs.seeds for study in group.studies} == {"full": [0], "lora": [0, 1]}
    split(tmp_path, "lora", 1, 7)
    (said,) = grouped(tmp_path)[1][1:]
    assert said == "lora, seed 1: split_seed=7 is left out, most runs have split_seed=0,1,2"
    for seed in (2, 3, 4, 5, 6):
        for strategy in ("full", "lora"):
            split(tmp_path, strategy, seed, 0)
    (group, *others), notes = grouped(tmp_path)  # now most are of one split, and each split is a group
    assert len(others) == 3 and not notes


def test_folds_of_several_splits_are_one_run(tmp_path: Path) -> None:
    for strategy in ("full", "lora"):
        for seed, number, fold in [(s, n, f) for s in range(2) for n in range(2) for f in range(3)]:
            split(tmp_path, strategy, seed, number, fold, 3)
    (group,), notes = grouped(tmp_path)
    assert not notes and group.items == POOL
    for study in group.studies:
        assert runs_in_words(study.tried) == "3 folds × 2 splits × 2 seeds"
        tried = study.tried[0]
        assert tried.ratio == 1 / 2 and sorted({*(tried.folds or [])}) == [*range(6)]
        assert len(tried.answered) == 2 * POOL and [*map((tried.rows or []).count, range(POOL))] == [2] * POOL
    (tmp_path / "full-1-1-2" / "result.json").unlink()
    assert grouped(tmp_path)[1] == [
        "full, seed 1, split_seed=1: fold 2 of 3 is missing",
        "full, seed 1: split_seed=1 is missing of split_seed=0,1",
    ]


def test_one_split_changes_nothing_whatever_its_seed(tmp_path: Path, capsys: Any) -> None:
    for strategy in ("full", "lora"):
        split(tmp_path, strategy, 0, 0)
    said = []
    for number in (0, 7):
        for run in tmp_path.iterdir():
            config = from_yaml(run / "config.yaml")
            config["task"]["split_seed"] = number
            (run / "config.yaml").write_text(to_yaml(config))
        for form in ("csv", "markdown"):
            assert start(["report", str(tmp_path), "--format", form]) == 0
            said.append(capsys.readouterr().out)
    asked = "'split_seed': 7", "'split_seed': 0"  # the settings, in a column of their own
    assert [said[0], said[1]] == [said[2].replace(*asked), said[3]]
    assert "split_seed" not in said[0].splitlines()[0] and "| split |" not in said[1]


def test_the_csv_and_the_table_name_each_split(tmp_path: Path, capsys: Any) -> None:
    repeated(tmp_path)
    assert start(["report", str(tmp_path), "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["split_seed"] for row in rows] == ["0", "1", "2"] * 4
    assert len({(row["strategy"], row["mean_score"]) for row in rows}) == 2
    assert start(["report", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "3 splits × 2 seeds" in text and "split_seed=" not in text and "Not comparable" not in text


@pytest.mark.parametrize("break_row", [{"file_row": 1}, {"file": None}])
def test_rows_that_cannot_be_told_apart_are_not_joined(break_row: dict[str, Any], tmp_path: Path) -> None:
    repeated(tmp_path, splits=2, seeds=1)
    for run in tmp_path.iterdir():
        lines = [line | break_row for line in answers(run)]
        kept = [{name: value for name, value in line.items() if value is not None} for line in lines]
        (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    groups, notes = grouped(tmp_path)
    assert len(groups) == 2 and len(notes) == 1 and "each task.split_seed is compared on its own" in notes[0]


def drawn(splits: int = 4, ratio: float | None = 0.25) -> tuple[list[Runs], numpy.ndarray, numpy.ndarray]:
    """Two ways on splits of 150 of 400 rows, whose effect all splits share in part; rows, and differences."""
    chance = numpy.random.default_rng(3)
    rows = numpy.concatenate([chance.permutation(400)[:150] for _ in range(splits)])
    same, rows = numpy.unique(rows, return_inverse=True)
    units = numpy.repeat(numpy.arange(splits), 150)
    shift = chance.normal(0, 0.15, splits)[units]
    values = chance.normal(0, 1, len(same))[rows] + chance.normal(0, 0.5, len(rows)) + shift
    tables = [values, numpy.zeros(len(rows))]
    left_out = [(table.sum() - table) / (len(table) - 1) for table in tables]
    ways = [
        Runs([0], numpy.array([table.mean()]), left[:, None], units, rows=rows, ratio=ratio)
        for table, left in zip(tables, left_out, strict=True)
    ]
    return ways, rows, values


def test_items_of_one_row_are_a_cluster() -> None:
    (way, _), rows, values = drawn()
    effect, count, items = values - values.mean(), rows.max() + 1, len(rows)
    sums = [sum(effect[at] for at in numpy.flatnonzero(rows == row)) for row in range(count)]
    expected = sum(each**2 for each in sums) / items**2 * count / (count - 1)
    assert estimate(way).items_error ** 2 == pytest.approx(expected)
    assert estimate(replace(way, rows=None)).items_error ** 2 < expected / 1.2
    alone = replace(way, rows=numpy.arange(items))
    assert vars(estimate(alone)) == vars(estimate(replace(way, rows=None)))


@pytest.mark.parametrize("ratio", [0.25, 1 / 9])
def test_the_split_enters_with_the_test_rows_for_each_other_row(ratio: float) -> None:
    """Nadeau & Bengio's factor, on what the means vary beyond their rows, of which any two share some."""
    (first, second), rows, values = drawn(ratio=ratio)
    effect, units = values - values.mean(), first.folds
    means = [effect[units == unit].mean() for unit in range(4)]
    own = [{row: effect[at] / 150 for at, row in enumerate(rows) if units[at] == unit} for unit in range(4)]
    shared = [[sum(one[row] * other.get(row, 0.0) for row in one) for other in own] for one in own]
    alike = (numpy.sum(shared) - numpy.trace(shared)) / 12
    beyond = numpy.var(means, ddof=1) - (numpy.trace(shared) / 4 - alike)
    found = difference(first, second).split_error or 0.0
    assert found**2 == pytest.approx(beyond * (1 / 4 + ratio), rel=0.02)
    folds = difference(replace(first, ratio=None), replace(second, ratio=None)).split_error or 0.0
    assert folds**2 / found**2 == pytest.approx((1 / 4 + 1 / 3) / (1 / 4 + ratio))


def test_a_label_in_doubt_is_that_of_a_row_and_slices_must_be_those_of_all_splits(tmp_path: Path) -> None:
    for number in range(3):
        sliced = {"half": "odd", "length": f"1–{number + 1} tokens"}
        run = split(tmp_path, "full", 0, number, probabilities={"a": 0.9, "b": 0.1}, slices=sliced)
        lines = answers(run)
        for line in lines:
            sure = {"a": 0.9, "b": 0.1} if line["label"] == "a" else {"a": 0.1, "b": 0.9}
            if line["file_row"] % 11 == 0:
                sure = {"a": sure["b"], "b": sure["a"]}
            line["probabilities"] = sure
            line["slices"]["half"] = "low" if line["file_row"] <= POOL / 2 else "high"
        (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (group,), _ = grouped(tmp_path)
    rows = {line["file_row"] for run in tmp_path.iterdir() for line in answers(run)}
    planted = sum(row % 11 == 0 for row in rows)
    assert doubt_lines(group)[0].startswith(f"{planted} of {len(rows)} test rows have labels in doubt")
    _, cells, said = section(group) or pytest.fail()
    assert {cell[0]: int(cell[1]) for cell in cells} == {
        "half=low": sum(row <= POOL / 2 for row in rows),
        "half=high": sum(row > POOL / 2 for row in rows),
    }
    assert "not all splits have the same slices by length, so these are left out" in said


def test_a_digit_is_the_same_row_in_every_split() -> None:
    seen: dict[int, bytes] = {}
    for number in range(2):
        loaded: Any = read(compose(["task=digits", "model=mlp", f"task.split_seed={number}"])).task.load(0)
        for name, (pixels, _) in loaded.splits.items():
            for place, content in zip(loaded.places[name], pixels, strict=True):
                assert place.file == "embedded:digits"
                assert seen.setdefault(place.file_row, content.tobytes()) == content.tobytes()
    assert sorted(seen) == [*range(1, 1798)]


def test_compare_runs_every_split_and_tunes_on_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tried: list[tuple[str, int, int]] = []

    def one(raw: dict[str, Any], path: Path, again: bool) -> float:
        number = raw["task"]["split_seed"]
        tried.append((raw["strategy"], raw["seed"], number))
        shutil.rmtree(path)  # which has the log alone
        (made := split(path.parent, raw["strategy"], raw["seed"], number)).rename(path)
        assert not made.exists()
        return 0.0

    monkeypatch.setattr(making, "one", one)
    words = ["task=digits", "model=mlp", "task.split_seed=0,3", "--strategies", "full,lora", "--seeds", "2"]
    assert start(["compare", *words, "--dir", "study"]) == 0
    assert {each for each in tried if each[1] >= 1000} == {  # a second seed where rates are within noise
        (way, seed, 0) for way in ("full", "lora") for seed in (1000, 1001)
    }
    assert [each for each in tried if each[1] < 1000] == [
        (way, seed, number) for seed in (0, 1) for number in (0, 3) for way in ("full", "lora")
    ]
    text = capsys.readouterr().out
    assert "on the first split: " in text and "2 splits × 2 seeds" in text
    assert {path.name.rpartition("-")[0] for path in (tmp_path / "study" / "runs").iterdir()} >= {
        "full-lr0.001-seed0-split0", "lora-lr0.001-seed1-split3"
    }  # fmt: skip


def test_split_seeds_and_folds_are_spelt_out() -> None:
    assert every_test(["rank=4"]) == (["rank=4"], [[]])
    assert every_test(["task.split_seed=1"]) == (["task.split_seed=1"], [[]])
    assert every_test(["task.folds=2"]) == (["task.folds=2"], [["task.fold=0"], ["task.fold=1"]])
    assert every_test(["task.folds=2", "task.split_seed=0,4"]) == (
        ["task.folds=2"],
        [[f"task.split_seed={seed}", f"task.fold={fold}"] for seed in (0, 4) for fold in (0, 1)],
    )
