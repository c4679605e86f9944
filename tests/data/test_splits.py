from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ftrun.data.folds import Splitting
from ftrun.data.labels import Labels
from ftrun.data.rows import load_splits, load_test, read_rows, texts_of
from ftrun.data.splits import Splits
from ftrun.errors import ConfigError, DataError


def table(path: Path, rows: list[tuple[Any, Any]]) -> str:
    """A jsonl file of texts and labels; its path."""
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return str(path)


def many(counts: dict[Any, int], name: str = "text") -> list[tuple[str, Any]]:
    return [(f"{name} {label} {number}", label) for label, count in counts.items() for number in range(count)]


def load(train: str | None, validation: str | None = None, test: str | None = None, **changed: Any) -> Splits:
    settings: dict[str, Any] = {"text": "text", "label": "label", "subset": None, "seed": 0} | changed
    return load_splits(train=train, validation=validation, test=test, **settings)


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in rows]


def labels(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(row["label"] for row in rows)


def test_missing_splits_are_carved_stratified_and_said(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", many({"pos": 60, "neg": 40}))
    splits = load(source)
    assert labels(splits.test) == labels(splits.validation) == {"pos": 6, "neg": 4}
    assert labels(splits.train) == {"pos": 48, "neg": 32}
    everything = texts(splits.train) + texts(splits.validation) + texts(splits.test)
    assert sorted(everything) == sorted(texts(read_rows(source)))
    assert splits.notes == [
        "test: 10 rows split off train (10% of each class, seed 0)",
        "validation: 10 rows split off train (10% of each class, seed 0)",
    ]


def repeated() -> list[tuple[str, str]]:
    """80 texts in 200 rows, some of them with another label than elsewhere, or spelt in capitals."""
    rows = [(f"text {number % 80}", "pos" if number % 80 < 50 else "neg") for number in range(200)]
    return [*rows[:-2], (rows[-2][0].upper(), rows[-2][1]), (rows[-1][0], "pos")]


def normal(rows: list[dict[str, Any]]) -> set[str]:
    return {text.lower() for text in texts(rows)}


def test_rows_of_one_text_are_split_off_together(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", repeated())
    splits = load(source, leaks="error")
    parts = [splits.train, splits.validation, splits.test]
    assert sum(map(len, parts)) == 200 and [len(normal(part)) for part in parts] == [64, 8, 8]
    assert splits.notes[:2] == [
        "test: 8 different texts split off train (10% of each class, seed 0)",
        "validation: 8 different texts split off train (10% of each class, seed 0)",
    ]
    sizes = [len(splits.train), len(splits.test), len(splits.validation)]
    assert splits.notes[
        2
    ] == "rows of one text stay in one split: train {} rows, test {} rows, validation {} rows".format(*sizes)
    with pytest.raises(DataError, match="task.leaks=error: "):  # a split that is given is as it is
        load(source, table(tmp_path / "b.jsonl", repeated()[:3]), leaks="error")


def test_too_few_texts_in_enough_rows_are_named(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", [("good", "pos"), ("bad", "neg")] * 30)
    with pytest.raises(DataError, match=r"too few different texts \(2 in 60 rows\) to carve test from"):
        load(source)


def test_rows_of_one_text_are_in_one_fold(tmp_path: Path) -> None:
    source, tested = table(tmp_path / "a.jsonl", repeated()), list[str]()
    for fold in range(4):
        splits = load(source, leaks="error", how=Splitting(4, fold))
        assert splits.notes[0] == f"test: fold {fold} of 4, 20 different texts (seed 0)"
        tested += texts(splits.test)
    assert sorted(tested) == sorted(text for text, _ in repeated())
    with pytest.raises(DataError, match="task.folds=90 is more than the 50 different texts of class 'pos'"):
        load(source, how=Splitting(90, 0))


def test_every_seed_is_scored_on_the_same_rows_and_a_given_validation_does_not_move_test(
    tmp_path: Path,
) -> None:
    source = table(tmp_path / "a.jsonl", many({"pos": 60, "neg": 40}))
    given = table(tmp_path / "b.jsonl", many({"pos": 2, "neg": 2}, "other"))
    assert load(source) == load(source)
    assert load(source).test == load(source, seed=1).test
    assert load(source, given).test == load(source).test
    assert texts(load(source, given).validation) == texts(read_rows(given))


def test_texts_that_may_say_that_there_is_none_are_counted(tmp_path: Path) -> None:
    rows = [*many({"a": 3, "b": 2}), ("NULL", "a"), ("None ", "b"), ("NULL", "b"), ("None of it", "a")]
    splits = load(table(tmp_path / "a.jsonl", rows), *[table(tmp_path / "b.jsonl", many({"a": 1}, "x"))] * 2)
    assert len(splits.train) == 9
    assert [note for note in splits.notes if "may mean" in note] == [
        "warning: train: 2 rows have the text 'NULL', which may mean that it is missing; an empty cell"
        " leaves a row out",
        "warning: train: 1 row has the text 'None', which may mean that it is missing; an empty cell"
        " leaves a row out",
    ]


def test_given_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    sources = [table(tmp_path / f"{n}.jsonl", many({"a": 3, "b": 2}, n)) for n in ("x", "y", "z")]
    splits = load(*sources)
    assert [texts(splits.train), texts(splits.validation), texts(splits.test)] == [
        texts(read_rows(source)) for source in sources
    ]
    assert splits.notes == []


def test_a_class_too_small_to_carve_stays_in_train_and_is_named(tmp_path: Path) -> None:
    splits = load(table(tmp_path / "a.jsonl", many({"a": 20, "b": 20, "lone": 1, "pair": 2})))
    assert labels(splits.train)["lone"] == 1 and labels(splits.train)["pair"] == 1
    assert labels(splits.test)["pair"] == 1 and labels(splits.validation)["pair"] == 0
    assert any(
        "too few rows of 'lone', 'pair' for every split: test or validation has none of them" in note
        for note in splits.notes
    )


def test_nothing_left_to_carve_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"too few rows \(2\) to carve test from; set task\.test"):
        load(table(tmp_path / "a.jsonl", many({"a": 1, "b": 1})))


@pytest.mark.parametrize(("small", "large"), [(10, 20), (20, 67), ("2 per class", "7 per class")])
def test_a_smaller_subset_lies_inside_a_larger_one(tmp_path: Path, small: Any, large: Any) -> None:
    sources = [table(tmp_path / f"{n}.jsonl", many({"a": 60, "b": 30, "c": 10}, n)) for n in ("x", "y", "z")]
    inner, outer = load(*sources, subset=small), load(*sources, subset=large)
    assert set(texts(inner.train)) < set(texts(outer.train))
    assert inner.test == outer.test == load(*sources).test
    assert load(*sources, subset=small, seed=1).train != inner.train


def test_subsets_are_stratified(tmp_path: Path) -> None:
    sources = [table(tmp_path / f"{n}.jsonl", many({"a": 60, "b": 30, "c": 10}, n)) for n in ("x", "y", "z")]
    assert labels(load(*sources, subset=50).train) == {"a": 30, "b": 15, "c": 5}
    assert labels(load(*sources, subset=3).train) == {"a": 1, "b": 1, "c": 1}
    splits = load(*sources, subset="20 per class")
    assert labels(splits.train) == {"a": 20, "b": 20, "c": 10}
    assert splits.notes == [
        "train: 50 of 100 rows chosen (task.subset=20 per class, seed 0)",
        "train: fewer than 20 rows of 'c', all taken",
    ]
    assert (
        load(*sources, subset=500).notes[-1] == "train: task.subset=500 is more than the 100 rows, all taken"
    )


@pytest.mark.parametrize("subset", [0, -1, 0.5, True, "half", "8 per", "0 per class", ""])
def test_a_subset_that_is_none_is_refused(tmp_path: Path, subset: Any) -> None:
    with pytest.raises(ConfigError, match="task.subset=.*a number of rows"):
        load(str(tmp_path / "not even read.csv"), subset=subset)


def test_rows_without_text_or_label_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [*many({"a": 5, "b": 5}), (" ", "a"), (None, "a"), (float("nan"), "b"), ("x", None), ("y", " ")]
    train = table(tmp_path / "a.jsonl", [("nan", "a"), *rows])
    other = table(tmp_path / "b.jsonl", many({"a": 1, "b": 1}, "other"))
    splits = load(train, other, other)
    assert texts(splits.train) == texts([{"text": text} for text, _ in rows[:10]])
    assert splits.notes[:2] == [
        "train: 4 of 16 rows dropped, an empty text (row 1, 12, 13, …)",
        "train: 2 of 16 rows dropped, no label (row 15, 16)",
    ]


@pytest.mark.parametrize("hidden", [-1, None, "-1", ""])
def test_hidden_test_labels_are_named(tmp_path: Path, hidden: Any) -> None:
    train = table(tmp_path / "a.jsonl", many({0: 5, 1: 5}))
    test = table(tmp_path / "b.jsonl", many({hidden: 7}))
    with pytest.raises(DataError, match=r"task\.test=.*b\.jsonl has no labels .* 7 rows.*task\.test=null"):
        load(train, None, test)


def test_minus_one_is_a_label_when_train_has_it(tmp_path: Path) -> None:
    train = table(tmp_path / "a.jsonl", many({-1: 5, 1: 5}))
    test = table(tmp_path / "b.jsonl", many({-1: 2}, "other"))
    assert labels(load(train, None, test).test) == {"-1": 2}


def test_a_wrong_column_lists_the_columns(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", many({"a": 5, "b": 5}))
    with pytest.raises(DataError) as caught:
        load(source, label="lable")
    assert "task.label=lable" in str(caught.value)
    assert "it has 'text', 'label'; did you mean 'label'?" in str(caught.value)
    with pytest.raises(DataError, match="task.text=sentence"):
        load(source, text="sentence")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((["a"], "a"), "task.text=text: row 11 of .* holds a list, not text"),
        (("x", {"id": 1}), "task.label=label: row 11 of .*: a label is text, a whole number or true/false"),
    ],
)
def test_a_value_of_the_wrong_kind_names_its_row(tmp_path: Path, row: tuple[Any, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(table(tmp_path / "a.jsonl", [*many({"a": 5, "b": 5}), row]))


def test_the_fingerprint_is_that_of_the_rows(tmp_path: Path) -> None:
    rows = many({1: 10, 0: 10})
    source = table(tmp_path / "a.jsonl", rows)
    csv = tmp_path / "same.csv"
    csv.write_text("label,text,extra\n" + "".join(f"{label}.0,{text},x\n" for text, label in rows))
    changed = table(tmp_path / "b.jsonl", [("new", 1), *rows[1:]])
    swapped = table(tmp_path / "c.jsonl", [(rows[0][0], 0), *rows[1:]])
    assert load(source).fingerprint == load(str(csv)).fingerprint
    prints = {load(source).fingerprint, load(changed).fingerprint, load(swapped).fingerprint}
    assert len(prints | {load(source, subset=5).fingerprint}) == 4


def test_without_train_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task.train is not set"):
        load(None)


def test_embedded_names_are_checked() -> None:
    with pytest.raises(DataError, match="no embedded data set 'docstring'.*did you mean 'docstrings'"):
        read_rows("embedded:docstring:train")
    with pytest.raises(DataError, match="no split 'tset'; possible: train, validation, test; did you mean"):
        read_rows("embedded:docstrings:tset")


def test_embedded_rows_come_from_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftrun.data.docstrings.rows", lambda split: [{"text": split, "label": "a"}])
    assert read_rows("embedded:docstrings:test") == [{"text": "test", "label": "a"}]


def test_another_test_file_takes_the_labels_of_the_run(tmp_path: Path) -> None:
    known = Labels(["a", "b"], [])
    source = table(tmp_path / "a.jsonl", [*many({"a": 2}), ("", "b")])
    splits = load_test(source, text="text", label="label", labels=known)
    assert labels(splits.test) == {"a": 2} and splits.train == splits.validation == []
    assert splits.notes == ["test: 1 of 3 rows dropped, an empty text (row 3)"]
    foreign = table(tmp_path / "b.jsonl", [("fine", "a"), ("odd one", "c")])
    with pytest.raises(
        DataError, match=r"label 'c' of the test row 'odd one' \(row 2 of .*\) is not a label of this run"
    ):
        load_test(foreign, text="text", label="label", labels=known)


def test_texts_to_answer_need_no_label() -> None:
    rows: list[dict[str, Any]] = [{"text": "a"}, {"text": " "}, {"text": None}, {"text": "b"}]
    assert texts_of(rows, "text", "f.csv") == ["a", "", "", "b"]
    with pytest.raises(DataError, match="task.text=sentence: f.csv has no such column"):
        texts_of(rows, "sentence", "f.csv")
    with pytest.raises(DataError, match="row 1 of f.csv holds an integer, not text"):
        texts_of([{"text": 3}], "text", "f.csv")


def test_of_all_labels_some_are_in_use_in_every_split(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", many({"a": 40, "b": 40, "c": 40}))
    test = table(tmp_path / "b.jsonl", many({"a": 3, "b": 2, "c": 4}, "other"))
    splits = load(source, test=test, subset=20, classes=["a", "c"])
    assert labels(splits.train) == {"a": 10, "c": 10} and labels(splits.validation) == {"a": 4, "c": 4}
    assert labels(splits.test) == {"a": 3, "c": 4}
    known = Labels(["a", "c"], [])
    again = load_test(test, text="text", label="label", labels=known, classes=["a", "c"])
    assert texts(again.test) == texts(splits.test)
    with pytest.raises(DataError, match="task.classes: .*a.jsonl has no row of 'bc'; it has 'a', 'b', 'c'"):
        load(source, classes=["a", "bc"])
