"""Scores by class and the confusion matrix: right in the file, compact on the terminal."""

import json

import pytest
from lab import ran, toy
from rich.console import Console
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ftrun.reports.breakdown import MOST, columns_of, tables
from ftrun.reports.numbers import score
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


def shown(details, tmp_path):
    screen = Console(width=200)
    with screen.capture() as capture:
        for table in tables(details, score, tmp_path / "details.json"):
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


def test_tables_on_the_terminal(details, tmp_path):
    lines = [line.split() for line in shown(details, tmp_path).splitlines()]
    assert lines[0] == ["classes", "precision", "recall", "f1", "support"]
    assert lines[1] == ["bad", "100.0", "%", "66.7", "%", "80.0", "%", "3"]
    assert lines[5] == ["true", "↓", "predicted", "→", *NAMES]
    assert lines[6] == ["bad", "2", "1", "·", "·"]


def test_a_large_table_is_left_to_the_file(tmp_path):
    many = {f"class {number}": {"f1": 0.5} for number in range(MOST + 1)}
    assert shown({"classes": many}, tmp_path).strip().startswith(f"classes: {MOST + 1} rows, in ")


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
