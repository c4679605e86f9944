"""Slices of test rows by what stands in a column, and by length: of each, every row is in one."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from ftrun.data.labels import name_of
from ftrun.data.tables import columns_of, refuse_absent
from ftrun.errors import DataError, kind_of
from ftrun.settings.checks import natural_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ftrun.data.tables import Columns

DISTINCT = 10  # a column with more different numbers is cut into thirds
MOST = 20  # slices of a column; its rarest values beyond share one
EMPTY, OTHER = "(empty)", "(other)"


def by_columns(
    columns: Columns, splits: Mapping[str, Sequence[dict[str, Any]]], source: str, folds: int | None = None
) -> dict[str, list[str]]:
    """For each column the slice of each test row; DataError for one that is not there or holds no values.

    They are cut at the test rows' values, with folds at those of all rows: there each is a test row once.
    """
    tested = splits["test"]
    rows = [*tested, *(row for split in ("train", "validation") if folds for row in splits[split])]
    present = list(dict.fromkeys(key for row in rows for key in row))
    found = {}
    for column in columns_of(columns):
        refuse_absent("slices", column, present, source)
        names = by_values([row.get(column) for row in rows], f"task.slices={column}: {source}")
        found[column] = names[: len(tested)]
    return found


def by_values(values: Sequence[Any], where: str) -> list[str]:
    """The slice of each value: its name, a third of the numbers, or what the rarest names share."""
    names = [_name(value, number, where) for number, value in enumerate(values, 1)]
    numbers = {name: number for name in set(names) - {EMPTY} if (number := _number(name)) is not None}
    if len(numbers) > DISTINCT and len(numbers) == len(set(names) - {EMPTY}):
        cut = iter(thirds([numbers[name] for name in names if name != EMPTY]))
        return [EMPTY if name == EMPTY else next(cut) for name in names]
    counts = Counter(names)
    if len(counts) <= MOST:
        return names
    kept = sorted(counts, key=lambda name: (-counts[name], natural_order(name)))[: MOST - 1]
    return [name if name in kept else OTHER for name in names]


def thirds(values: Sequence[float], unit: str = "") -> list[str]:
    """The third that each value is in, named by its lowest and highest value; equal values stay together."""
    ordered = sorted(values)
    cuts = [ordered[(len(ordered) * third - 1) // 3] for third in (1, 2)]
    parts = [sum(value > cut for cut in cuts) for value in values]
    names = {}
    for part in set(parts):
        own = [value for value, each in zip(values, parts, strict=True) if each == part]
        names[part] = "–".join(dict.fromkeys(f"{end:g}" for end in (min(own), max(own)))) + unit
    return [names[part] for part in parts]


def order(names: Sequence[str]) -> list[str]:
    """The names of slices as they are listed: numbers by their size, what has no name of its own last."""
    return sorted(set(names), key=lambda name: (name in (OTHER, EMPTY), natural_order(name)))


def _name(value: Any, number: int, where: str) -> str:
    try:
        return name_of(value) or EMPTY
    except DataError:
        raise DataError(f"{where}, row {number} holds {kind_of(value)}, not one value") from None


def _number(name: str) -> float | None:
    try:
        value = float(name)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
