"""Scores by class and the confusion matrix: right in the file, compact on the terminal."""

import json
from pathlib import Path

import pytest
from lab import ran, toy
from rich.console import Console
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ftrun.reports.numbers import distinct, filled, score
from ftrun.reports.pages.breakdown import MOST, columns_of, tables
from ftrun.tasks.dataset import Example
from ftrun.tasks.parts.labelled import ClassScorer

NAMES = ["bad", "fine", "good", "odd"]
GIVEN = [0, 0, 0, 1, 1, 2]
ANSWERED = [0, 0, 1, 1, 2, 2]


@pytest.fixture
def details():
    scorer = ClassScorer(NAMES)
    examples = [Example([1], target, row) for row, target in enumerate(GIVEN)]
    answers = [{"answer": NAMES[index], "probability": 1.0, "probabilities": {}} for index in ANSWERED]
    return scorer.tables(scorer.rows(answers, examples))["details.json"]


def shown(details, width=200):
    screen = Console(width=width, highlight=False)
    with screen.capture() as capture:
        for table in tables(details, score, Path("details.json"), width):
            screen.print(table)
    return capture.get()


def test_the_numbers_are_those_of_scikit_learn(details):
    theirs = precision_recall_fscore_support(GIVEN, ANSWERED, labels=range(4), zero_division=0)
    assert [*details["classes"]] == NAMES
    for row, right in zip(details["classes"].values(), zip(*theirs, strict=True), strict=True):
        assert [*row.values()] == [*right] and [*row] == ["precision", "recall", "f1", "support"]
    matrix = confusion_matrix(GIVEN, ANSWERED, labels=range(4))
    found = [[details["confusion"][given].get(name, 0) for name in NAMES] for given in NAMES]
    assert found == matrix.tolist()


def test_it_is_json_without_the_pairs_that_never_occur(details):
    assert json.loads(json.dumps(details)) == details
    assert details["confusion"]["bad"] == {"bad": 2, "fine": 1}


def test_tables_on_the_terminal(details):
    lines = [line.split() for line in shown(details).splitlines()]
    assert lines[0] == ["classes", "precision", "recall", "f1", "support"]
    assert lines[1] == ["bad", "100.0", "%", "66.7", "%", "80.0", "%", "3"]
    assert lines[5] == ["true", "↓", "predicted", "→", *NAMES]
    assert lines[6] == ["bad", "2", "1", "·", "·"]


def twelve(prefix="a name of class number"):
    """A matrix of twelve classes whose largest confusion is 9 → 4: seven of its ten rows."""
    names = [f"{prefix} {number}" for number in range(12)]
    matrix = {name: {name: 10} for name in names}
    for number in range(11):
        matrix[names[number]][names[number + 1]] = 1
    matrix[names[9]] = {names[9]: 2, names[4]: 7, names[0]: 1}
    return names, matrix


@pytest.mark.parametrize("width", [80, 100])
def test_a_matrix_that_does_not_fit_shows_its_largest_confusions(width):
    names, matrix = twelve()
    lines = shown({"confusion": matrix}, width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].strip() == "confusion: the largest 10 of 12 pairs (all: details.json)"
    assert [each.strip() for each in lines[2].split("  ") if each.strip()] == [
        names[9], f"→ {names[4]}", "7", "70.0 %",
    ]  # fmt: skip
    assert len(lines) == 2 + 10


def test_a_matrix_that_fits_is_whole():
    _, matrix = twelve("c")
    assert shown({"confusion": matrix}, 100).startswith("true ↓ predicted →  c 0  c 1")
    assert "the largest" in shown({"confusion": matrix}, 60)


def test_of_many_classes_those_with_the_lowest_f1_are_shown():
    many = {f"class {number}": {"f1": 0.5 + number / 100, "support": 3} for number in range(MOST + 1)}
    many["unseen"] = {"f1": None, "support": 0}
    many["planted"] = {"f1": 0.1, "support": 3}
    lines = shown({"classes": many}, 100).splitlines()
    assert lines[0].startswith(f"classes: the lowest f1, 10 of {MOST + 3} rows (all: details.json)")
    assert lines[2].split() == ["planted", "10.0", "%", "3"] and lines[3].split()[:2] == ["class", "0"]
    assert len(lines) == 2 + 10 and not any("unseen" in line for line in lines)


def test_names_are_cut_where_no_two_come_to_be_the_same():
    names = ["customer support billing", "customer support login", "short"]
    cut = distinct(names, 16)
    assert len({*cut.values()}) == 3 and max(map(len, cut.values())) <= 16 and cut["short"] == "short"
    alike = [f"{'a' * 20}{letter}{'z' * 20}" for letter in "bcd"]
    assert len({*distinct(alike, 12).values()}) == 3


def test_long_names_are_broken_where_they_may_be():
    assert filled("lora rank=8 targets=[query,value]", 24) == ["lora rank=8", "targets=[query,value]"]
    assert filled("targets=[query,key,value]", 20) == ["targets=[query,key,", "value]"]
    assert filled("x" * 30, 20) == ["x" * 20, "x" * 10]


def test_columns_that_are_rows_come_in_the_order_of_the_rows():
    assert columns_of({"a": {"c": 1, "a": 0}, "b": {"x": 1, "b": 2}}) == ["a", "b", "c", "x"]


def test_a_run_keeps_and_shows_them(toy_files, tiny_model_dir, tmp_path, capsys):
    run = ran(tmp_path / "run", toy(toy_files, tiny_model_dir, "train.max_steps=2"))
    kept = run.read_json("details.json")
    assert kept["classes"]["positive"]["support"] == 20
    assert sum(sum(row.values()) for row in kept["confusion"].values()) == 40
    assert 0 <= run.read_json("result.json")["test_f1_weighted"] <= 1
    seen = capsys.readouterr().out
    assert "true ↓ predicted →" in seen and "support" in seen
