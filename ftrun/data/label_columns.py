"""How a label column is read: a name, several names or a number per row, and what rows are drawn from."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftrun.data.content import parsed
from ftrun.data.labels import MARKS, name_of
from ftrun.data.splits import parse_subset
from ftrun.data.text.numerals import written
from ftrun.errors import ConfigError, DataError, counted, kind_of

LARGEST = 3.4e38  # of single precision, in which a network answers
FLAGS = {"0": False, "1": True, "False": False, "True": True}  # as names of labels
QUANTILES = 10  # strata of a column of numbers, where each has as many rows


@dataclass(frozen=True)
class LabelColumn:
    """What a cell of the label column means, and the strata of splits and subsets."""

    read: Callable[[Any], Any]  # a cell; None where it has no label, DataError where it can be none
    strata: Callable[[list[Any]], list[str]]  # of a whole column of what `read` gives
    stratum: str  # the word for one of them
    hidden: Any  # what a benchmark that keeps its labels to itself writes into every row
    notes: Callable[[Sequence[Any]], list[str]] = field(default=lambda cells: [])  # of all cells; DataError
    columns: tuple[str, ...] = ()  # several, whose cells are one list; none where the label column has a name

    def cell(self, row: Mapping[str, Any], label: str) -> Any:
        """What `read` reads of a row."""
        return [row.get(name) for name in self.columns] if self.columns else row.get(label)

    def named(self, label: str) -> list[str]:
        """The columns that it reads."""
        return [*self.columns] or [label]


def several(separator: str | None, positions: Sequence[str] | None) -> LabelColumn:
    """Names in a list, also as JSON in a text, or in a text with `separator` between them; [] is no label.

    With the names of `positions` a list has a 1 for each label of a row, and a 0 for each other.
    """

    def read(value: Any) -> list[str] | None:
        found = names_in(value, separator)
        if found is None:
            return None
        return list(dict.fromkeys(found)) if positions is None else at_positions(found, positions)

    def notes(cells: Sequence[Any]) -> list[str]:
        return [] if positions is not None else doubts([names_in(value, separator) or [] for value in cells])

    return LabelColumn(read, rarest, "label", None, notes)


def one_each(columns: Sequence[str]) -> LabelColumn:
    """Columns with a 1 where a row has the label of that name, and a 0 where it has not."""

    def read(cells: list[Any]) -> list[str] | None:
        flags = [name_of(cell) for cell in cells]
        if not any(flag is not None for flag in flags):
            return None
        for name, flag in zip(columns, flags, strict=True):
            if flag not in FLAGS:
                held = "an empty cell" if flag is None else repr(flag[:40])
                raise DataError(
                    f"of several label columns each holds 0 or 1, not {held} (column {name!r}); a row is left"
                    " out where all of them are empty"
                )
        return [name for name, flag in zip(columns, flags, strict=True) if FLAGS[str(flag)]]

    return LabelColumn(read, rarest, "label", None, columns=tuple(columns))


def at_positions(flags: list[str], names: Sequence[str]) -> list[str]:
    """The names at which there is a 1; DataError unless there is a 0 or a 1 for each."""
    if flags and len(flags) != len(names):
        entries = counted(len(flags), "entry", "entries")
        raise DataError(f"task.positions has {len(names)} names, but the list {entries}")
    if other := next((flag for flag in flags if flag not in FLAGS), None):
        raise DataError(f"with task.positions a list holds 0 and 1, not {other[:40]!r}")
    return [name for name, flag in zip(names, flags, strict=bool(flags)) if FLAGS[flag]]


def doubts(column: list[list[str]]) -> list[str]:
    """A note of rows that have a label twice; DataError where the lists hold a 0 or a 1 for each label."""
    full = [names for names in column if names]
    sizes = {len(names) for names in full}
    if len(sizes) == 1 and max(sizes) > 1 and all(name in FLAGS for names in full for name in names):
        size = sizes.pop()
        raise DataError(
            f"every list holds {size} times 0 or 1, which would be the names of labels; where they stand for"
            f" {size} labels, name these: task.positions=[NAME,…]"
        )
    twice = [(row, names) for row, names in enumerate(column, 1) if len(set(names)) < len(names)]
    if not twice:
        return []
    row, names = twice[0]
    name = next(name for name in names if names.count(name) > 1)
    count = counted(len(twice), "row")
    return [f"{count} with the same label twice, which counts once (row {row}: {name!r})"]


def names_in(value: Any, separator: str | None) -> list[str] | None:
    """The names in a cell, in their order; None where the cell is null."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    if separator is None and not isinstance(value, list | tuple) and name_of(value) in FLAGS:
        raise DataError(
            f"{value!r} is no list of labels; possible where each label has a column of 0 and 1:"
            " task.label=[NAME,NAME]; one label per row: task=classify"
        )
    if isinstance(value, str):
        if not value.strip():
            return []
        if separator is not None:
            value = [part.strip() for part in value.split(separator)]
        else:
            value = list_in(value)
    if not isinstance(value, list | tuple):
        raise DataError(f"several labels are a list, not {kind_of(value)}; one per row: task=classify")
    return [name for part in value if (name := name_of(part)) is not None]


def list_in(text: str) -> Any:
    """A list written as JSON; DataError for any other text."""
    if text.lstrip().startswith("["):
        try:
            return parsed(text, f"{text[:40]!r}")
        except json.JSONDecodeError:
            raise DataError(f"{text[:40]!r} is not a JSON list") from None
    raise DataError(f"{text[:40]!r} is not a list; task.separator sets what separates labels")


def rarest(column: list[list[str]]) -> list[str]:
    """For each row the one of its labels that the fewest rows have, "" for a row without any."""
    counts = Counter(name for names in column for name in names)
    return [min(names, key=lambda name: (counts[name], name)) if names else "" for names in column]


def number_in(value: Any) -> float | None:
    """A finite number, None for an empty cell; DataError for anything else, NaN and infinity included."""
    if hasattr(value, "item") and not isinstance(value, int | float):
        value = value.item()
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool | list | dict):
        raise DataError(f"a number is needed, not {json.dumps(value, default=str)[:40]}")
    try:
        number = math.nan if isinstance(value, str) and "_" in value else float(value)
    except (TypeError, ValueError):
        raise DataError(f"{str(value)[:40]!r} is not a number{hint(str(value))}") from None
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DataError(f"{str(value)[:40]!r} is not a finite number; an empty cell leaves the row out")
    if abs(number) > LARGEST:
        shown = f"{str(value)[:40]!r} is beyond {LARGEST:.1e}, the largest number"
        raise DataError(f"{shown}; rescale the column")
    return number


def hint(text: str) -> str:
    """Why a text is not a number and what is possible, where that is known."""
    if (found := written(text)) is not None:
        return f"; {found.line()}"
    return "; an empty cell leaves the row out" if text.strip() in MARKS else ""


def quantiles(column: list[float]) -> list[str]:
    """The tenth of the sorted column in which each number first stands; equal numbers share theirs."""
    parts = max(1, min(QUANTILES, len(column) // QUANTILES))
    place: dict[float, int] = {}
    for index, number in enumerate(sorted(column)):
        place.setdefault(number, parts * index // len(column))
    return [str(place[number]) for number in column]


def refuse_per_class(subset: Any, why: str) -> None:
    """ConfigError for `task.subset=8 per class` where rows have no classes."""
    if subset is not None and parse_subset(subset)[1]:
        raise ConfigError(f"task.subset={subset}: {why}; it is a number of rows here")


ONE_NAME = LabelColumn(name_of, lambda column: column, "class", "-1")
NUMBER = LabelColumn(number_in, quantiles, "quantile", -1.0)
