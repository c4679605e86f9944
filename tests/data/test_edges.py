"""Splits, folds, leaks and batches at their edges: the last value that is taken and the first that is not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from ftrun.data import batching
from ftrun.data.balance import balanced_rows, class_weights
from ftrun.data.batching import EpochBatches, batches_by_tokens, labels_tensor, pad, sorted_batches
from ftrun.data.folds import MOST_FOLDS, Splitting
from ftrun.data.grouped_splits import Keys, carve_groups, refuse_classes, split_rows
from ftrun.data.leaks import SplitTexts, leaks_of, normalised, of_columns, of_texts, repeated, without_leaks
from ftrun.data.splits import carve, choose, parse_subset, pick
from ftrun.errors import ConfigError, DataError

BOTH = ["test", "validation"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 14, 15, 24, 25, 26, 100])
def test_each_carved_split_has_a_tenth_of_a_class_and_train_a_row_at_least(count: int) -> None:
    found, notes = carve(["a"] * count, BOTH, seed=3)
    wanted = max(1, round(0.1 * count))
    test = min(wanted, count - 1)
    validation = min(wanted, count - 1 - test)
    assert [len(found[split]) for split in ("test", "validation", "train")] == [
        test,
        validation,
        count - test - validation,
    ]
    assert sorted(row for rows in found.values() for row in rows) == [*range(count)]
    assert all(rows == sorted(rows) for rows in found.values())
    assert f"test: {test} row{'s' if test != 1 else ''} split off train (10% of each class, seed 3)" in notes
    scarce = [note for note in notes if "too few rows" in note]
    assert scarce == (
        ["too few rows of 'a' for every split: test or validation has none of them"] if count < 3 else []
    )


def test_a_class_is_shuffled_by_its_name_and_purpose_alone() -> None:
    """Rows of another class, or another split, change nothing for this one."""
    alone, _ = carve(["a"] * 40, ["test"], 0)
    mixed, _ = carve([name for _ in range(40) for name in "ab"], ["test"], 0)
    assert [row // 2 for row in mixed["test"] if row % 2 == 0] == alone["test"]
    assert carve(["a"] * 40, ["test"], 1)[0] != alone
    chosen, _ = choose(["a"] * 40, 4, 0)
    assert chosen != alone["test"] and len(chosen) == 4


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (1, (1, False)), ("200", (200, False)), (" 8  per class ", (8, True)), ("1 per class", (1, True)),
        ("", None),
        (0, None), (True, None), (2.0, None), ("0 per class", None), ("8 per", None), ("-3", None),
    ],
)  # fmt: skip
def test_a_subset_is_a_number_of_rows_or_of_rows_a_class(value: Any, found: Any) -> None:
    if found is None:
        with pytest.raises(ConfigError, match="task.subset="):
            parse_subset(value)
    else:
        assert parse_subset(value) == found


def test_a_subset_as_large_as_all_is_all_and_says_so_only_beyond() -> None:
    names = ["a"] * 6 + ["b"] * 2
    assert choose(names, 8, 0) == ([*range(8)], [])
    rows, notes = choose(names, 9, 0)
    assert rows == [*range(8)] and notes == ["train: task.subset=9 is more than the 8 rows, all taken"]
    rows, notes = choose(names, "3 per class", 0)
    assert len(rows) == 5 and notes == ["train: fewer than 3 rows of 'b', all taken"]
    assert choose(names, "2 per class", 0)[1] == []
    assert choose(names, 1, 0)[1] == ["train: 1 row for 2 classes, some have none"]
    assert choose(names, 1, 0, stratum="kind")[1] == ["train: 1 row for 2 kinds, some have none"]
    assert choose(names, 2, 0)[1] == [] and Counter(pick(names, choose(names, 2, 0)[0])) == {"a": 1, "b": 1}


def test_rows_of_an_even_choice_come_at_each_class_s_own_pace() -> None:
    """After one of each class, k rows have k times its share of every class, to the nearest row."""
    names = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    for size in (3, 10, 20, 50, 90):
        counts = Counter(pick(names, choose(names, size, 5)[0]))
        for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
            assert abs(counts[name] - share * size) <= 1, (size, counts)


def test_folds_are_limited_to_a_run_each_and_spelt_as_they_are_typed() -> None:
    Splitting(MOST_FOLDS, MOST_FOLDS - 1)
    with pytest.raises(ConfigError, match="task.folds is at most 1,000, a run for each, not 1001"):
        Splitting(1001, 0)
    with pytest.raises(ConfigError, match=r"task\.fold=0,1,2,.*,18,19; for one"):
        Splitting(20)
    with pytest.raises(ConfigError, match=r"task\.fold='range\(21\)'; for one"):
        Splitting(21)


def test_embedded_splits_are_put_together_only_where_another_split_is_asked_for() -> None:
    given: Any = {split: f"embedded:digits:{split}" for split in ("train", "validation", "test")}
    whole = {"train": [*given.values()], "validation": None, "test": None}
    for how in (Splitting(3, 0), Splitting(seed=1), Splitting(group="who"), Splitting(time="at")):
        assert how.sources(given) == (
            whole,
            ["embedded:digits: its three splits are put together and split again"],
        )
    assert Splitting().sources(given) == (given, [])
    mixed = given | {"test": "mine.csv"}
    assert Splitting(group="who").sources(mixed) == (mixed, [])
    alone: Any = {"train": "mine.csv", "validation": None, "test": None}
    for how in (Splitting(3, 0), Splitting(seed=1), Splitting(group="who")):
        assert how.sources(alone) == (alone, [])
    with pytest.raises(ConfigError, match="but task.test=mine.csv is given; possible: task.test=null,"):
        Splitting(3, 0).sources(alone | {"test": "mine.csv"})
    two = alone | {"validation": "a.csv", "test": "b.csv"}
    with pytest.raises(ConfigError, match="since task.validation=a.csv and task.test=b.csv are given"):
        Splitting(seed=1).sources(two)
    assert Splitting(seed=1).sources(alone | {"test": "b.csv"})[0]["test"] == "b.csv"  # one is still carved


def test_every_row_needs_its_group_and_its_time() -> None:
    rows: Any = [{"who": "a", "at": 1}, {"who": "b", "at": 2.5}]
    for how in (Splitting(group="who"), Splitting(time="at"), Splitting()):
        how.check(rows, "here")
    for bad, said in (
        ({"who": None, "at": 1}, "row 3 of here has none"),
        ({"who": [1], "at": 1}, "row 3 of here"),
    ):
        with pytest.raises(DataError, match=said):
            Splitting(group="who").check([*rows, bad], "here")
    with pytest.raises(DataError, match="numbers and dates are mixed"):
        Splitting(time="at").check([*rows, {"who": "a", "at": "2024-05-31"}], "here")


def test_too_few_groups_for_the_splits_are_said_and_just_enough_are_not() -> None:
    def keys(groups: int) -> Keys:
        return Keys(["a"] * 4 * groups, "class", [f"g{n // 4}" for n in range(4 * groups)])

    how = Splitting(group="who")
    found, _ = split_rows(how, BOTH, keys(3))
    assert sorted(map(len, found.values())) == [4, 4, 4]
    with pytest.raises(
        DataError, match="2 different values in 8 rows are too few for train, validation, test"
    ):
        split_rows(how, BOTH, keys(2))
    assert sorted(map(len, split_rows(how, ["test"], keys(2))[0].values())) == [4, 4]
    with pytest.raises(DataError, match="1 different value in 4 rows are too few for train, test"):
        split_rows(how, ["test"], keys(1))
    found, notes = split_rows(how, BOTH, keys(40))
    assert [len(found[split]) for split in ("train", "validation", "test")] == [128, 16, 16]  # tenths
    assert notes[0] == "test: 16 rows split off train, 4 of 40 values of who (seed 0)"


def test_a_group_that_is_more_than_two_tenths_is_no_split_where_others_can_be() -> None:
    groups = ["large"] * 60 + [f"g{n // 4}" for n in range(40)]
    for seed in range(4):
        found, _ = split_rows(Splitting(group="who", seed=seed), BOTH, Keys(["a"] * 100, "class", groups))
        assert all(row in found["train"] for row in range(60))


def test_rows_without_classes_have_no_subset_of_each() -> None:
    for value in (None, 5, "5"):
        refuse_classes(value)
    with pytest.raises(ConfigError, match="these rows have no class"):
        refuse_classes("5 per class")


def test_whole_texts_are_carved_and_said_by_their_unit() -> None:
    def texts(count: int) -> dict[str, list[str]]:
        return {"train": [f"text {n // 2}" for n in range(count)]}

    rows = texts(40)
    notes = carve_groups(rows, BOTH, lambda text: text, "sentences", Splitting())
    assert notes == [f"{split}: 4 sentences split off train (10%, seed 0)" for split in BOTH]
    rows = texts(12)
    (note, _) = carve_groups(rows, BOTH, lambda text: text, "sentences", Splitting(6, 2))
    assert note == "test: 2 sentences fold 2 of 6 (seed 0)"
    with pytest.raises(DataError, match="task.folds=7 is more than the 6 different sentences"):
        carve_groups(texts(12), BOTH, lambda text: text, "sentences", Splitting(7, 2))
    with pytest.raises(DataError, match=r"too few different sentences \(2\) to carve"):
        carve_groups(texts(4), BOTH, lambda text: text, "sentences", Splitting())


def test_a_leak_counts_rows_on_both_sides_and_shows_three_texts_once() -> None:
    train = ["One", "two", "three", "four", "five", "one "]
    test = ["ONE", "one", "Two", "three", "four", "else"]
    found = leaks_of(of_texts({"train": train, "validation": ["new"], "test": test}))
    (leak,) = found
    assert (leak.split, leak.other, leak.rows, leak.of, leak.others) == ("test", "train", 5, 6, 5)
    assert leak.examples == ["ONE", "one", "Two"]
    assert leak.count() == "5 of 6 test rows are also in train"
    (single,) = leaks_of(of_texts({"train": ["a"], "validation": ["A"], "test": ["b"]}), "texts")
    assert single.line() == "1 of 1 validation texts is also in train ('A')"


def test_columns_are_compared_one_by_one_and_shown_together() -> None:
    found = of_columns({"train": [{"a": "X  y", "b": 3, "c": 0}]}, ["a", "b"])
    assert found.keys == {"train": ["x y\x003"]} and found.texts == {"train": ["X  y | 3"]}
    assert normalised(" A\u00a0\tﬁ ") == "a fi"


def test_repetitions_are_counted_and_the_most_frequent_are_shown_as_they_come_first() -> None:
    texts = ["A", "a", "b", "B", "b", "c", "d", "D", "e", "E", "e", "e"]
    found = repeated([normalised(text) for text in texts], texts)
    assert found == {"rows": 12 - 5, "examples": ["e", "b", "A"]}
    assert repeated(["x", "y"], ["x", "y"]) == {"rows": 0, "examples": []}


def test_leaks_are_dropped_from_train_and_said_with_their_reason() -> None:
    keys = {"train": [*"abcde"], "validation": ["a"], "test": ["c", "z"]}
    kept, notes = without_leaks(SplitTexts(keys, keys), "texts")
    assert list(kept) == [1, 3, 4]
    assert notes == ["train: 2 of 5 texts dropped, their texts are in validation or test ('a', 'c')"]
    other = SplitTexts(keys, keys, "of a group that is also in")
    assert without_leaks(other)[1] == [
        "train: 2 of 5 rows dropped, of a group that is also in validation or test ('a', 'c')"
    ]
    assert without_leaks(SplitTexts(keys | {"validation": [], "test": []}, keys)) == ([0, 1, 2, 3, 4], [])
    with pytest.raises(DataError, match="leaves no training row: all of them are also in validation or test"):
        without_leaks(SplitTexts(keys | {"train": ["a"]}, keys | {"train": ["A"]}))


def test_pools_that_are_held_sorted_have_no_more_examples_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is let go is made again the same, whatever batch is asked for."""
    lengths = [(7 * n) % 50 + 1 for n in range(1003)]
    whole = [*EpochBatches(lengths, 4, 0, 0, pool=5)]
    monkeypatch.setattr(batching, "HELD", 60)  # of 20 examples each
    few = EpochBatches(lengths, 4, 0, 0, pool=5)
    held = set()
    for number in [*range(len(few)), *range(0, len(few), 7)]:
        assert few[number] == whole[number]
        held.add(len(few._pools))
    assert max(held) == 3
    monkeypatch.setattr(batching, "HELD", 1)  # less than a pool: one at least
    one = EpochBatches(lengths, 4, 0, 0, pool=5)
    assert [one[number] for number in range(9)] == whole[:9] == one[:9] and len(one._pools) == 1
    assert few[-3:] == whole[-3:] and few[2:9:3] == whole[2:9:3]


def test_batches_by_tokens_have_as_many_tokens_as_the_first() -> None:
    assert batches_by_tokens([10, 5, 5, 4, 0, 0], 1) == [[0], [1, 2], [3, 4], [5]]
    assert [len(batch) for batch in batches_by_tokens([32, *[1] * 40], 1)] == [1, 16, 16, 8]
    assert [len(batch) for batch in batches_by_tokens([9, *[1] * 40], 1)] == [1, 9, 9, 9, 9, 4]
    assert sorted_batches([3, 5, 5, 1], 3) == [[1, 2, 0], [3]]


def test_padding_is_to_the_longest_or_to_a_width_and_labels_keep_their_kind() -> None:
    ids, mask = pad([[1], [2, 3]], 7, width=4)
    assert ids.tolist() == [[1, 7, 7, 7], [2, 3, 7, 7]] and mask.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert ids.dtype == mask.dtype == torch.int64 and pad([[1, 2]], 0, width=1)[0].shape == (1, 2)
    found: list[Any] = [labels_tensor(labels) for labels in ([1, 2], [1.5, 2], [[0, 1], [1, 1]], [1, None])]
    assert found[3] is None and [each.dtype for each in found[:3]] == [
        torch.int64,
        torch.float64,
        torch.int64,
    ]
    assert found[2].shape == (2, 2)


def test_classes_take_turns_through_all_epochs_and_rows_within_a_class() -> None:
    targets = [0, 0, 0, 0, 0, 1, 1, 2]
    drawn = [row for epoch in range(9) for row in balanced_rows(targets, 4, epoch)]
    assert [targets[row] for row in drawn] == [n % 3 for n in range(72)]
    of_first = [row for row in drawn if targets[row] == 0]
    for start in range(0, 20, 5):
        assert sorted(of_first[start : start + 5]) == [0, 1, 2, 3, 4]
    assert of_first[:5] != of_first[5:10] or of_first[5:10] != of_first[10:15]
    assert class_weights(Counter({0: 6, 2: 2}), 4) == pytest.approx([8 / 12, 1.0, 2.0, 1.0])
