from __future__ import annotations

from typing import Any

import pytest

from ftrun.data.labels import classes_of, declared_names, label_set
from ftrun.data.splits import Splits
from ftrun.errors import ConfigError, DataError


def split_of(**labels: list[Any]) -> Splits:
    """Splits of rows that have only labels to speak of."""
    rows = {
        split: [{"text": f"{split} {number}", "label": label} for number, label in enumerate(values)]
        for split, values in ({"train": [], "validation": [], "test": []} | labels).items()
    }
    return Splits(**rows, notes=[], fingerprint="")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["10", "2", "1"], ["1", "2", "10"]),
        ([1, 0, 1.0, "1", "0.0"], ["0", "1"]),
        ([-1, 1, 0], ["-1", "0", "1"]),
        ([True, False], ["False", "True"]),
        (["b2", "b10", "a"], ["a", "b2", "b10"]),
    ],
)
def test_label_names_are_plain_and_in_natural_order(given: list[Any], names: list[str]) -> None:
    found = label_set(split_of(train=given), "label", None)
    assert found.names == names
    assert found.index(names[-1]) == len(names) - 1


def test_one_and_one_point_zero_are_one_label() -> None:
    found = label_set(split_of(train=[0, 1]), "label", None)
    assert found.index(1) == found.index(1.0) == found.index("1") == found.index("1.0") == 1
    with pytest.raises(DataError, match="label '2' is not one of the 2 labels \\('0', '1'\\)"):
        found.index(2)


def test_labels_are_the_union_and_the_unseen_ones_are_named() -> None:
    found = label_set(split_of(train=["a", "b"], validation=["a"], test=["a", "b", "c", "c"]), "label", None)
    assert found.names == ["a", "b", "c"]
    assert found.notes == [
        "warning: label 'c' occurs in test only (2 rows): training never sees it",
        "no validation row has the label 'b'",
    ]


def test_labels_that_look_alike_are_named_and_kept_apart() -> None:
    found = label_set(split_of(train=["Pos", "Pos", "pos ", "neg", "new_one", "New one"]), "label", None)
    assert len(found.names) == 5
    begin, end = (
        "warning: labels that differ only in case or blanks are kept apart: ",
        "; to join them, spell",
    )
    pairs = [note.removeprefix(begin).partition(end)[0] for note in found.notes]
    assert pairs == ["'New one' (1 row), 'new_one' (1 row)", "'Pos' (2 rows), 'pos ' (1 row)"]


@pytest.mark.parametrize(
    ("given", "way"),
    [
        (["a b", "c", "NULL"], """'task.classes=["a b",c]' leaves such rows out, as an empty cell does"""),
        ([["a"], ["c"], ["a", "NULL"]], "an empty cell is a row without a label"),
        (["NULL", "a"], "task.classes=[…] leaves such rows out, as an empty cell does"),
    ],
)
def test_a_label_that_may_say_that_there_is_none_is_a_class_and_is_named(given: list[Any], way: str) -> None:
    """As many rows have it as there are; who names the labels has chosen it."""
    found = label_set(split_of(train=given, validation=given, test=given), "label", None)
    assert "NULL" in found.names
    assert found.notes == [
        "warning: 3 rows have the label 'NULL', which is a class here but may mean that the label is missing;"
        f" {way}"
    ]
    assert label_set(split_of(train=given), "label", found.names).notes == []
    assert label_set(split_of(train=given), "label", None, chosen=True).notes == []


def test_only_what_other_programs_write_for_nothing_is_doubted() -> None:
    marks = ["NA", "N/A", "n/a", "#N/A", "null", "None", "<NA>"]
    found = label_set(split_of(train=[*marks, "none", "Na", "nothing", "unknown", "-1"]), "label", None)
    named = [note.split("'")[1] for note in found.notes if "may mean" in note]
    assert sorted(named) == sorted(marks) and found.index("NA") != found.index("null")


def test_declared_labels_keep_their_order_and_refuse_others() -> None:
    splits = split_of(train=[1, 0], test=[1])
    found = label_set(splits, "label", [1, 0, 5])
    assert found.names == ["1", "0", "5"] and "label '5' is declared, but no row has it" in found.notes
    splits.test.append({"text": "the odd one", "label": "yse"})
    with pytest.raises(DataError) as caught:
        label_set(splits, "label", [1, 0, "yes"])
    assert str(caught.value) == (
        "label 'yse' of the test row 'the odd one' is not in task.labels ('1', '0', 'yes'); "
        "did you mean 'yes'?"
    )


@pytest.mark.parametrize("declared", [["a"], ["a", "a"], ["a", None], []])
def test_a_declared_list_must_be_one(declared: list[Any]) -> None:
    with pytest.raises(ConfigError, match="task.labels="):
        label_set(split_of(train=["a", "b"]), "label", declared)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a"] * 9, "the training rows have only the label 'a'"),
        ([0.5, 1.0, 2.25], r"holds numbers with decimals \('0.5', '1', '2.25'\): that needs regression"),
        (["0.5", "1", "NA"], r"holds numbers with decimals \('0.5', '1'\): that needs regression"),
        (["0.5", "1"], "needs regression"),
        (
            [f"a sentence {n}" for n in range(30)],
            "30 different labels in 30 rows .*: is this the label column",
        ),
    ],
)
def test_columns_that_are_no_label_are_refused(given: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_set(split_of(train=given), "label", None)


def test_decimals_may_be_classes_when_declared() -> None:
    assert label_set(split_of(train=["3.11", "3.12"]), "label", ["3.11", "3.12"]).names == ["3.11", "3.12"]


def test_a_list_among_declared_labels_is_said_with_its_setting():
    with pytest.raises(ConfigError, match=r"task\.classes=\[\[\]\]: a label is text, .* not a list"):
        classes_of([[]])
    with pytest.raises(ConfigError, match=r"task\.positions=\[\{\}\]: a label is text, .* not an object"):
        declared_names("positions", [{}])
