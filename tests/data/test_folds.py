"""Folds, whole groups and times: nothing on two sides, every row once, the same rows whoever asks."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy
import pytest

from ftrun.data.card import repetitions
from ftrun.data.folds import Splitting
from ftrun.data.grouped_splits import Keys, complete, split_rows
from ftrun.data.images.splits import ImageSelection
from ftrun.data.images.splits import load_splits as load_images
from ftrun.data.leaks import of_columns
from ftrun.data.rows import load_splits
from ftrun.data.splits import SHARE, Splits
from ftrun.data.times import moment, shown
from ftrun.errors import ConfigError, DataError
from ftrun.experiments.overrides import compose
from ftrun.settings.read import read

BOTH = ["test", "validation"]
SEEDS = range(4)


def keys(seed: int, rows: int = 300, groups: int = 40) -> Keys:
    """Rows of two classes, in groups of unequal size, at times of which many are equal."""
    chance = random.Random(seed)
    names = [f"g{min(chance.randrange(groups), chance.randrange(groups))}" for _ in range(rows)]
    moments = [float(chance.randrange(rows // 5)) for _ in range(rows)]
    return Keys([chance.choice("aab") for _ in range(rows)], "class", names, moments)


def grouped(found: Keys) -> Keys:
    return Keys(found.strata, found.stratum, found.groups)


def timed(found: Keys) -> Keys:
    return Keys(found.strata, found.stratum, None, found.times)


def parts_of(indices: dict[str, list[int]], values: list[Any]) -> dict[str, set[Any]]:
    return {split: {values[row] for row in rows} for split, rows in indices.items()}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("folds", [None, 2, 5])
def test_no_group_is_on_two_sides(seed: int, folds: int | None) -> None:
    found = grouped(keys(seed))
    for fold in range(folds or 1):
        how = Splitting(folds, fold if folds else None, seed, group="g")
        indices, notes = split_rows(how, BOTH, found)
        assert sorted(row for rows in indices.values() for row in rows) == list(range(300))
        names = parts_of(indices, found.groups or [])
        assert all(names.values())
        assert not names["train"] & names["test"] and not names["validation"] & names["test"]
        assert not names["train"] & names["validation"]
        assert f"{len(names['test'])} of {len(set(found.groups or []))} values of g" in " ".join(notes)
        if folds is None:
            assert 0.5 * SHARE < len(indices["test"]) / 300 < 2 * SHARE


@pytest.mark.parametrize("group", [None, "g"])
def test_the_folds_are_a_partition_and_stratified(group: str | None) -> None:
    found = keys(1)
    chosen = grouped(found) if group else Keys(found.strata, found.stratum)
    tests = [split_rows(Splitting(5, fold, 3, group), BOTH, chosen)[0]["test"] for fold in range(5)]
    assert sorted(row for rows in tests for row in rows) == list(range(300))
    whole = Counter(found.strata)["a"] / 300
    off = [abs(Counter(found.strata[row] for row in rows)["a"] / len(rows) - whole) for rows in tests]
    assert max(off) < (0.05 if group else 1 / 60)
    again = [split_rows(Splitting(5, fold, 3, group), BOTH, chosen)[0]["test"] for fold in range(5)]
    other = [split_rows(Splitting(5, fold, 4, group), BOTH, chosen)[0]["test"] for fold in range(5)]
    assert tests == again and tests != other


def test_the_folds_are_scikit_learn_s() -> None:
    from sklearn.model_selection import StratifiedKFold

    found = keys(2)
    strata, plain = numpy.array(found.strata), Keys(found.strata, "class")
    expected = StratifiedKFold(4, shuffle=True, random_state=7).split(strata, strata)
    for fold, (_, test) in enumerate(expected):
        assert split_rows(Splitting(4, fold, 7), BOTH, plain)[0]["test"] == test.tolist()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("folds", [None, 2, 5])
def test_what_trains_was_before(seed: int, folds: int | None) -> None:
    found = timed(keys(seed))
    tested: list[int] = []
    for fold in range(folds or 1):
        how = Splitting(folds, fold if folds else None, time="t")
        indices, _ = split_rows(how, BOTH, found)
        moments = parts_of(indices, found.times or [])
        assert max(moments["train"]) < min(moments["validation"])
        assert max(moments["validation"]) < min(moments["test"])
        tested += indices["test"]
    assert len(tested) == len(set(tested))
    if folds:
        moments_of = found.times or []
        first = min(moments_of[row] for row in tested)
        assert {*tested} == {row for row in range(300) if moments_of[row] >= first}


def test_without_ties_the_folds_in_time_are_scikit_learn_s() -> None:
    from sklearn.model_selection import TimeSeriesSplit

    moments = [float(row) for row in range(57)]
    random.Random(0).shuffle(moments)
    order = sorted(range(57), key=moments.__getitem__)
    found = Keys(["a"] * 57, "class", None, moments)
    for fold, (before, test) in enumerate(TimeSeriesSplit(4).split(order)):
        indices, _ = split_rows(Splitting(4, fold, time="t"), BOTH, found)
        assert indices["test"] == sorted(order[place] for place in test)
        assert sorted(indices["train"] + indices["validation"]) == sorted(order[place] for place in before)


def test_ties_that_leave_one_way_to_split_are_split_that_way() -> None:
    moments = [0.0] * 50 + [1.0, 2.0]
    indices, notes = split_rows(Splitting(time="t"), BOTH, Keys(["a"] * 52, "class", None, moments))
    assert indices == {"train": list(range(50)), "validation": [50], "test": [51]}
    assert notes[0] == "test: 1 row split off train, the last by t (2 to 2)"
    with pytest.raises(DataError, match="task.time=t: 2 different times for train, validation and test"):
        split_rows(Splitting(time="t"), BOTH, Keys(["a"] * 4, "class", None, [1.0, 1.0, 2.0, 2.0]))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("2024-05", "2024-05-01"), ("2024-05-31", "2024-05-31"), (2024, "2024"), (" 7.5 ", "7.5"),
        ("2024-05-31T14:00:00+02:00", "2024-05-31T14:00:00+02:00"), ("20240531", "20240531"),
        ("2024-05-31T12:30:00Z", "2024-05-31T12:30:00"),
    ],
)  # fmt: skip
def test_times_as_people_write_them(cell: Any, text: str) -> None:
    assert shown(moment(cell)) == text


def test_a_zone_counts_and_empty_is_none() -> None:
    assert moment("2024-05-31T14:00:00+02:00") == moment("2024-05-31T12:00:00Z")
    assert moment(None) is moment(" ") is moment(float("nan")) is None


def file_of(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def patients(count: int, rows: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "text": f"note {row} of {who}",
            "label": "ab"[row % 2],
            "who": f"p{who}",
            "at": f"20{row + 10}-01-01",
        }
        for who in range(first, first + count)
        for row in range(rows)
    ]


def load(train: str, test: str | None = None, leaks: str = "warn", **how: Any) -> Splits:
    return load_splits(
        train=train, validation=None, test=test, text="text", label="label", subset=None, seed=0, leaks=leaks,
        how=Splitting(**how),
    )  # fmt: skip


def test_groups_of_given_files_leak_and_are_said_like_texts(tmp_path: Path) -> None:
    train = file_of(tmp_path / "train.jsonl", patients(20, 4))
    other = [row | {"text": f"another {row['text']}"} for row in patients(3, 2, first=19)]
    test = file_of(tmp_path / "test.jsonl", other)
    said = "2 of 6 test rows are of a who that is also in train ('p19')"
    home = next(
        split for split in ("train", "validation")
        if any(row["who"] == "p19" for row in vars(load(train, test, group="who"))[split])
    )  # fmt: skip
    splits = load(train, test, group="who")
    assert any(said.replace("train", home) in note for note in splits.notes)
    rows = {split: vars(splits)[split] for split in ("train", "validation", "test")}
    card = repetitions(of_columns(rows, "text"), more=Splitting(group="who").leaks(rows))
    assert [(leak["rows"], leak["of"], leak["other"]) for leak in card["leaks"]] == [(2, 6, home)]
    assert not any("LEAK" in note for note in load(train, test).notes)
    with pytest.raises(DataError, match=f"task.leaks=error: {said.replace('train', home)[:40]}"):
        load(train, test, "error", group="who")


def test_leaking_groups_and_late_rows_are_dropped_from_train(tmp_path: Path) -> None:
    train = file_of(tmp_path / "train.jsonl", patients(20, 4))
    everyone = [row | {"text": "x" + row["text"]} for row in patients(20, 1)[:15]]
    test = file_of(tmp_path / "test.jsonl", everyone)
    splits = load(train, test, "drop", group="who")
    assert {row["who"] for row in splits.train}.isdisjoint(row["who"] for row in splits.test)
    assert any("rows dropped, of a who that is also in validation or test" in note for note in splits.notes)
    late = file_of(tmp_path / "late.jsonl", [{"text": "late", "label": "a", "at": "2012-06-01"}] * 3)
    assert any(
        "warning: LEAK: 3 of 3 test rows are no later by at than the newest of" in note
        for note in load(train, late, time="at").notes
    )
    kept = load(train, late, "drop", time="at")
    assert kept.train and max(row["at"] for row in kept.train) < "2012-06-01"


@pytest.mark.parametrize(
    ("row", "how", "message"),
    [
        ({"at": "soon"}, {"time": "at"}, "task.time=at: row 81 of .*: 'soon' is neither a number nor an ISO"),
        ({"at": 2031}, {"time": "at"}, "task.time=at: row 81 of .* is 2031: numbers and dates are mixed"),
        ({"at": ""}, {"time": "at"}, "task.time=at: row 81 of .* has none; every row needs one"),
        ({"who": None}, {"group": "who"}, "task.group=who: row 81 of .* has none; every row needs one"),
        ({"who": ["x"]}, {"group": "who"}, "task.group=who: row 81 of .*: a group is text, .* not a list"),
        ({}, {"group": "whom"}, "task.group=whom: .* has no such column; .*did you mean 'who'"),
        ({}, {"group": "who", "folds": 21, "fold": 0}, "task.folds=21 is more than the 20 different values"),
        ({}, {"folds": 50, "fold": 0}, "task.folds=50 is more than the 4[01] rows of class"),
        ({}, {"time": "at", "folds": 3, "fold": 0}, "task.folds=3: task.time=at has 4 different times; .* 5"),
    ],
)
def test_rows_that_cannot_be_split_are_one_line(
    tmp_path: Path, row: dict[str, Any], how: dict[str, Any], message: str
) -> None:
    rows = patients(20, 4)
    train = file_of(tmp_path / "a.jsonl", [*rows, rows[0] | {"text": "new"} | row] if row else rows)
    with pytest.raises(DataError, match=message):
        load(train, **how)


def test_too_few_groups_are_one_line(tmp_path: Path) -> None:
    train = file_of(tmp_path / "a.jsonl", patients(2, 30))
    with pytest.raises(
        DataError, match="task.group=who: 2 different values in 60 rows are too few for train, "
    ):
        load(train, group="who")
    splits = load(file_of(tmp_path / "b.jsonl", patients(3, 30)), group="who")
    assert sorted(map(len, (splits.train, splits.validation, splits.test))) == [30, 30, 30]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task.folds=1"], "task.folds is at least 2, not 1"),
        (["task.fold=1"], "task.fold=1 is one of the folds, whose number is not set: task.folds=5"),
        (["task.folds=3"], "task.folds=3 is 3 runs: ftrun -m … task.folds=3 task.fold=0,1,2"),
        (["task.folds=3", "task.fold=3"], "task.fold is from 0 to 2 with task.folds=3, not 3"),
        (["task.split_seed=-1"], "task.split_seed is at least 0"),
        (["task.time=at", "task.group=who"], "task.time=at and task.group=who exclude each other"),
        (["task.time=at", "task.split_seed=1"], "task.split_seed=1 changes nothing with task.time=at"),
        (
            ["task.folds=3", "task.fold=0", "task.test=b.csv"],
            "task.folds=3 splits the rows of task.train, but task.test=b.csv is given; possible",
        ),
        (
            ["task.split_seed=1", "task.test=b.csv", "task.validation=c.csv"],
            "task.split_seed=1 changes nothing, since .* are given; possible: task.test=null",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(compose(["task=classify", "task.train=a.csv", *words]))


@pytest.mark.parametrize(("task", "setting"), [("ner", "group"), ("qa", "time"), ("lm", "folds")])
def test_a_kind_without_the_setting_says_which_have_it(task: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"no setting 'task.{setting}'.*tasks have it: .*classify"):
        compose([f"task={task}", "task.train=a.conll", f"task.{setting}=x"])


def test_every_way_and_every_seed_has_the_same_folds() -> None:
    """Of the task: neither the strategy nor the seed nor the number of labels reaches the test rows."""
    base = ["task=docstrings", "task.folds=4", "task.fold=2", "task.group=module"]
    found = []
    for words in (["seed=0"], ["seed=1"], ["strategy=lora"], ["task.subset=50"]):
        settings = read(compose([*base, *words]))
        splits = settings.task.load(settings.seed).splits
        found.append([(row["module"], row["name"]) for row in splits["test"]])
        assert {row["module"] for row in splits["train"]}.isdisjoint(module for module, _ in found[-1])
    assert found[0] == found[1] == found[2] == found[3]


def test_embedded_splits_are_put_together_and_split_again() -> None:
    plain = read(compose(["task=docstrings", "task.subset=null"])).task.load(0)
    task = read(compose(["task=docstrings", "task.subset=null", "task.group=module"])).task
    again = task.load(0)
    assert "embedded:docstrings: its three splits are put together and split again" in again.notes
    whole = sum(map(len, again.splits.values()))
    assert whole > sum(map(len, plain.splits.values()))  # of validation it has not the first eight alone
    assert len({row["text"] for part in again.splits.values() for row in part}) == whole
    card = task.how.card(again.splits)["groups"]
    assert card["column"] == "module"
    for split, part in again.splits.items():
        assert card["count"][split] == len({row["module"] for row in part})
        assert len(card["largest"][split]) == min(20, card["count"][split])


@pytest.mark.parametrize("task", ["ner", "qa"])
def test_sentences_and_paragraphs_have_folds_by_whole_texts(task: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"tokens": ["Ann", "is", f"no{place // 2}"], "tags": ["B-PER", "O", "O"]}
        if task == "ner"
        else {"id": place, "question": f"who {place}?", "context": f"Ann {place // 2}",
              "answers": {"text": ["Ann"], "answer_start": [0]}}
        for place in range(60)
    ]  # fmt: skip
    source = file_of(tmp_path / "a.jsonl", rows)
    tested, rows_tested = set(), 0
    for fold in range(3):
        words = [f"task={task}", f"task.train={source}", "task.folds=3", f"task.fold={fold}"]
        own = read(compose(words)).task
        loaded = own.load(0)
        texts = own.parts(loaded.splits)
        assert not {*texts["test"]} & {*texts["train"], *texts["validation"]}
        assert any(note.startswith(f"test: 20 {own.rows_are} fold {fold} of 3") for note in loaded.notes)
        tested |= {*texts["test"]}
        rows_tested += len(loaded.splits["test"])
    assert rows_tested == 60 and len(tested) == 30


def test_images_have_folds_and_groups_of_a_table(tmp_path: Path) -> None:
    lines = ["file,label,patient"]
    for place in range(60):
        (tmp_path / f"{place}.png").write_bytes(bytes([place]))
        lines.append(f"{place}.png,{'ab'[place % 2]},p{place // 3}")
    table = tmp_path / "images.csv"
    table.write_text("\n".join(lines) + "\n")
    tested = []
    for fold in range(4):
        given = {"train": str(table), "validation": None, "test": None}
        reading, how = ImageSelection(None, "label", None, None), Splitting(4, fold, group="patient")
        found, _, notes, _ = load_images(given, reading, None, None, 0, "error", how)
        who = {split: {file.about["patient"] for file in part} for split, part in found.items()}
        assert not who["train"] & who["test"] and not who["validation"] & (who["test"] | who["train"])
        assert "values of patient (seed 0)" in " ".join(notes)
        tested += [file.name for file in found["test"]]
    assert len(tested) == len({*tested}) == 60


def test_digits_have_folds_and_the_first_seed_is_the_split_there_was() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    base = ["task=digits", "model=mlp"]
    pixels = load_digits().data / 16
    for seed in (0, 3):
        _, test = train_test_split(pixels, test_size=0.25, random_state=seed)
        loaded = read(compose([*base, f"task.split_seed={seed}"])).task.load(0)
        assert numpy.allclose(loaded.splits["test"][0], test)
    folds = [
        read(compose([*base, "task.folds=3", f"task.fold={fold}"])).task.load(0).splits["test"][0]
        for fold in range(3)
    ]
    assert numpy.allclose(sorted(map(tuple, numpy.concatenate(folds))), sorted(map(tuple, pixels)))


def test_the_card_has_the_folds_groups_and_times_of_each_split() -> None:
    rows = {
        split: [{"who": f"{split}{number % 3 and 1}", "at": number} for number in range(start, start + 5)]
        for split, start in (("train", 0), ("validation", 12), ("test", 21))
    }
    assert Splitting().card(rows) == {}
    assert Splitting(3, 1, 7).card(rows) == {"folds": {"folds": 3, "fold": 1, "split_seed": 7}}
    assert Splitting(group="who").card(rows)["groups"] == {
        "column": "who",
        "count": {"train": 2, "validation": 2, "test": 2},
        "largest": {
            "train": {"train1": 3, "train0": 2},
            "validation": {"validation1": 3, "validation0": 2},
            "test": {"test1": 3, "test0": 2},
        },
    }
    assert Splitting(time="at").card(rows)["times"] == {
        "column": "at", "train": ["0", "4"], "validation": ["12", "16"], "test": ["21", "25"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"folds": 1, "fold": 0}, "task.folds is at least 2, not 1"),
        ({"folds": 3, "fold": 3}, "task.fold is from 0 to 2 with task.folds=3, not 3"),
        ({"folds": 3, "fold": -1}, "task.fold is from 0 to 2"),
        ({"folds": 3}, "task.folds=3 is 3 runs: .* task.fold=0,1,2; for one"),
        ({"fold": 0}, "task.fold=0 is one of the folds, whose number is not set"),
        ({"seed": -1}, "task.split_seed is at least 0, not -1"),
        ({"seed": 2**32}, "task.split_seed is at most 4294967295, not 4294967296"),
        ({"time": "at", "group": "who"}, "exclude each other"),
        ({"time": "at", "seed": 1}, "task.split_seed=1 changes nothing with task.time=at"),
    ],
)
def test_splits_that_cannot_be_are_one_line(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Splitting(**how)
    Splitting(seed=2**32 - 1)
    Splitting(2, 1)


def test_classes_with_fewer_rows_than_folds_are_named_and_no_others() -> None:
    for count, said in ((2, ["too few rows of 'b' for every fold"]), (3, [])):
        _, notes = split_rows(Splitting(3, 0), BOTH, Keys(["a"] * 30 + ["b"] * count, "class"))
        assert [note for note in notes if "too few rows of 'b' for every fold" in note] == said


def test_a_training_row_at_the_time_of_the_first_held_one_is_late() -> None:
    def at(*moments: int) -> list[dict[str, Any]]:
        return [{"at": moment} for moment in moments]

    how, rows = Splitting(time="at"), {"train": at(1, 3, 2), "validation": at(3, 4), "test": at(5)}
    kept, notes = how.without_leaks(rows)
    assert list(kept) == [0, 2] and notes == ["train: 1 of 3 rows dropped, not before 3 by at"]
    assert how.without_leaks(rows | {"train": at(2, 1)}) == ([0, 1], [])
    assert Splitting().without_leaks(rows) == (range(3), [])
    with pytest.raises(DataError, match="none is before 3 by at"):
        how.without_leaks(rows | {"train": at(3)})
    (leak,) = how.leaks(rows)
    assert (leak.split, leak.other, leak.rows, leak.of, leak.others) == ("validation", "train", 1, 2, 1)
    assert how.leaks(rows | {"train": at(2)}) == [] == Splitting().leaks(rows)


def test_texts_without_classes_are_carved_whole_chosen_and_rid_of_leaks() -> None:
    texts = [f"text {number // 2}" for number in range(40)]  # each twice
    rows = {"train": list(texts)}
    notes = complete(rows, 9, 0, str, "sentences", False, Splitting())
    assert [len(rows[split]) for split in ("train", "validation", "test")] == [9, 4, 4]
    assert not set(rows["validation"]) & set(rows["test"]) | set(rows["train"]) & set(rows["test"])
    assert notes == [
        "test: 4 sentences split off train (10%, seed 0)",
        "validation: 4 sentences split off train (10%, seed 0)",
        "train: 9 of 32 sentences chosen (task.subset=9, seed 0)",
    ]
    given = {"train": ["a", "B", "c"], "validation": ["b "], "test": ["d"]}
    assert complete(given, None, 0, str, "sentences", False, Splitting()) == [] and len(given["train"]) == 3
    assert len(complete(given, None, 0, str, "sentences", True, Splitting())) == 1
    assert given["train"] == ["a", "c"]
    with pytest.raises(DataError, match="task.folds=4 is more than the 3 different sentences"):
        complete({"train": ["a", "b", "c", "A"]}, None, 0, str, "sentences", False, Splitting(4, 0))
