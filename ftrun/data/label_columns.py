"""How a label column is read: a name, several names or a number per row, and what rows are drawn from."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftrun.data.content import parsed
from ftrun.data.labels import MARKS, name_of
from ftrun.data.splits import parse_subset
from ftrun.errors import ConfigError, DataError, counted, kind_of

LARGEST = 3.4e38  # of single precision, in which a network answers
FLAGS = {"0": False, "1": True, "False": False, "True": True}  # as names of labels
UNIT = r"(?:US|CA|AU)?\$|[%‰€£¥₹]|USD|EUR|GBP|CHF|JPY"
WRITTEN = re.compile(  # a number as people write it: with its unit and marks between its digits
    rf"(?P<sign>[+-]?)\s*(?P<front>{UNIT})?\s*(?P<digits>[0-9](?:[.,'’\s]?[0-9])*)\s*(?P<behind>{UNIT})?"
)
QUANTILES = 10  # strata of a column of numbers, where each has as many rows


@dataclass(frozen=True)
class LabelColumn:
    """What a cell of the label column means, and the strata of splits and subsets."""

    read: Callable[[Any], Any]  # a cell; None where it has no label, DataError where it can be none
    strata: Callable[[list[Any]], list[str]]  # of a whole column of what `read` gives
    stratum: str  # the word for one of them
    hidden: Any  # what a benchmark that keeps its labels to itself writes into every row
    notes: Callable[[Sequence[Any]], list[str]] = field(default=lambda cells: [])  # of all cells; DataError


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


@dataclass(frozen=True)
class Written:
    """A number that is not written as one."""

    values: list[str]  # as it could be meant, one or two
    unit: str  # beside it, "" for none
    mark: str  # between its digits, the last of them
    thousands: bool  # whether there are marks between those

    def line(self) -> str:
        """What is in the way, and how it is written instead."""
        if len(self.values) > 1:
            mark = {",": "comma", ".": "point"}[self.mark]
            meant = f"thousands ({self.values[0]}) or decimals ({self.values[1]})"
            unit = f", without {self.unit!r}" if self.unit else ""
            return f"its {mark} separates {meant}: write one of them{unit}"
        if not self.unit and not self.thousands:
            return f"a decimal point is needed, not a comma: {self.values[0]}"
        gone = [repr(self.unit)] * bool(self.unit) + ["separators of thousands"] * self.thousands
        point = ", with a decimal point," if self.mark == "," and "." in self.values[0] else ""
        return f"without {' and '.join(gone)}{point} it is {self.values[0]}"


def written(text: str) -> Written | None:
    """A number with a unit, separators of thousands or a decimal comma; None for any other text.

    Three digits behind a single comma may be either, but no amount of money has as many decimals; several
    marks of one kind are between thousands.
    """
    found = WRITTEN.fullmatch(text.strip())
    if found is None:
        return None
    unit = found["front"] or found["behind"] or ""
    parts, marks = re.split(r"[^0-9]", found["digits"]), re.findall(r"[^0-9]", found["digits"])
    mark, kinds, single = marks[-1] if marks else "", len({*marks}), len(marks) == 1
    money = unit not in ("", "%", "‰")
    values = []
    if kinds < 2 and in_thousands(parts) and (mark != "." or money or not single):
        values.append("".join(parts))
    if single and mark in ",." and not (values and mark == "," and money):
        values.append(".".join(parts))
    if kinds == 2 and marks.count(mark) == 1 and mark in ",." and in_thousands(parts[:-1]):
        values.append("".join(parts[:-1]) + "." + parts[-1])
    if not values and unit and not marks:
        values = parts
    if not values or not (unit or {*marks} - {"."} or len(marks) > 1):
        return None
    sign = found["sign"].replace("+", "")
    thousands = len(marks) > 1 or mark not in ",." or len(values[0]) == len("".join(parts))
    return Written([sign + value for value in values], unit, mark, bool(marks) and thousands)


def in_thousands(parts: list[str]) -> bool:
    """Whether digits are in groups of three, or as in India of two and the last of three."""
    first, *rest = parts
    return (
        1 <= len(first) <= 3
        and not (first[0] == "0" and rest)
        and all(len(part) in (2, 3) for part in rest)
        and (not rest or len(rest[-1]) == 3)
    )


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
