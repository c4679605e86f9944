"""Every row is in one slice of each column, and equal values are in the same."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ftrun.data.slices import DISTINCT, EMPTY, MOST, OTHER, by_columns, by_values, order, thirds
from ftrun.errors import DataError


def test_thirds_part_the_values_at_their_quantiles_and_are_named_by_their_bounds() -> None:
    values = list(range(1, 31))
    random.Random(0).shuffle(values)
    names = thirds(values, " tokens")
    assert Counter(names) == {"1–10 tokens": 10, "11–20 tokens": 10, "21–30 tokens": 10}
    for value, name in zip(values, names, strict=True):
        low, high = (int(end) for end in name.removesuffix(" tokens").split("–"))
        assert low <= value <= high


@pytest.mark.parametrize("seed", range(20))
def test_thirds_of_any_values_do_not_overlap(seed: int) -> None:
    chance = random.Random(seed)
    values = [chance.randrange(1, 1 + chance.choice((2, 5, 40))) for _ in range(chance.randrange(1, 60))]
    names = thirds(values)
    ends = sorted(
        (min(own), max(own))
        for own in ([v for v, each in zip(values, names, strict=True) if each == name] for name in set(names))
    )
    assert len(ends) <= 3
    assert all(before[1] < after[0] for before, after in zip(ends, ends[1:], strict=False))


def test_equal_values_are_one_slice() -> None:
    assert thirds([7, 7, 7], " tokens") == ["7 tokens"] * 3


def test_a_column_of_many_numbers_is_cut_and_one_of_few_is_not() -> None:
    few = [str(number % DISTINCT) for number in range(60)]
    assert by_values(few, "") == few
    many = [str(number) for number in range(DISTINCT + 2)] + ["", None, float("nan")]
    names = by_values(many, "")
    assert names[-3:] == [EMPTY] * 3 and Counter(names[:-3]) == {"0–3": 4, "4–7": 4, "8–11": 4}
    assert by_values([*many[:-3], "news"], "")[-1] == "news"  # no column of numbers any more


def test_the_rarest_values_share_a_slice() -> None:
    values = [f"v{number}" for number in range(MOST + 5) for _ in range(number + 1)]
    counts = Counter(by_values(values, ""))
    assert len(counts) == MOST and sum(counts.values()) == len(values)
    assert counts[OTHER] == sum(range(1, 7)) and "v5" not in counts and counts["v6"] == 7


def test_slices_are_listed_by_their_numbers() -> None:
    assert order(["11–20 tokens", EMPTY, "b", "2–10 tokens", OTHER, "a"]) == [
        "2–10 tokens", "11–20 tokens", "a", "b", EMPTY, OTHER,
    ]  # fmt: skip


def test_a_column_that_is_not_there_or_holds_lists_is_refused() -> None:
    rows = [{"genre": "news", "tags": ["a"]}, {"genre": "", "tags": ["b"]}]
    splits = {"test": rows}
    assert by_columns("genre", splits, "a.jsonl") == {"genre": ["news", EMPTY]}
    with pytest.raises(DataError, match="task.slices=gnre: a.jsonl has no such .* did you mean 'genre'"):
        by_columns(["gnre"], splits, "a.jsonl")
    with pytest.raises(DataError, match="task.slices=tags: a.jsonl, row 1 holds a list, not one value"):
        by_columns(["genre", "tags"], splits, "a.jsonl")


def test_folds_are_cut_alike() -> None:
    rows = [{"year": number} for number in range(60)]
    random.Random(0).shuffle(rows)
    folds = [rows[:20], rows[20:40], rows[40:]]
    found = []
    for fold, tested in enumerate(folds):
        rest = [row for other in folds[:fold] + folds[fold + 1 :] for row in other]
        splits = {"train": rest[:30], "validation": rest[30:], "test": tested}
        found += by_columns("year", splits, "", folds=3)["year"]
    assert Counter(found) == {"0–19": 20, "20–39": 20, "40–59": 20}
