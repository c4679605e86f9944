"""What the columns of a table hold, as far as their cells say: texts, classes, numbers, lists, images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from ftrun.data.images.sources import PICTURES
from ftrun.data.label_columns import FLAGS, names_in, number_in
from ftrun.data.labels import MANY, MARKS, name_of, refuse_free_text
from ftrun.data.squad import answers_of
from ftrun.data.text.numerals import written
from ftrun.data.times import moment
from ftrun.errors import DataError, counted, kind_of, listed

TEXT, CLASSES, NUMBERS, LABELS, WORDS, IMAGES, ANSWERS, TIMES, OTHER = (
    "text", "classes", "numbers", "labels", "words", "images", "answers", "times", "other",
)  # fmt: skip
SEPARATORS = ("|", ";", ",")  # the last is part of many names
OFTEN = 2  # rows that a value has on average, in a column of classes
LONG = 4  # words of a part of a cell, which is no name of a label above
LABEL = 8  # words of a class on average, above which equal texts are texts that occur again
HEADLESS = "; its name is one of them: is the first line a header?"
DATE = re.compile(  # as people write it: 31.05.2024, 5/31/24 2:30 PM
    r"(\d{4}([./-])\d{1,2}\2\d{1,2}|\d{1,2}([./-])\d{1,2}\3(\d{2}){1,2})"
    r"([\sT]+\d{1,2}(:\d{2}){1,2}(\s?[AaPp]\.?[Mm]\.?)?)?"
)
SHORT = 30  # classes that are shown by their names
Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column: what it holds, and how much."""

    name: str
    holds: str
    distinct: int
    words: float  # of a cell, on average
    more: str = ""  # what a person wants to know of it
    separator: str | None = None  # between the labels of a cell, of classes what could be one
    flags: int = 0  # entries of lists of 0 and 1
    binary: bool = False  # one 0 or 1 a row
    whole: bool = False  # numbers without decimals
    unclean: str = ""  # of numbers: why they cannot be read

    def line(self) -> str:
        return f"{self.name}: {self.holds}{self.more and f' ({self.more})'}"


def columns_in(rows: Sequence[Row]) -> list[Column]:
    """The columns of a table in their order; cells without anything say nothing."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [column_of(name, [row.get(name) for row in rows]) for name in names]


def column_of(name: str, cells: Sequence[Any]) -> Column:
    """What one column holds."""
    full = [cell for cell in cells if not empty(cell)]
    if not full:
        return Column(name, OTHER, 0, 0.0, "empty")
    if all(is_image(cell) for cell in full):
        return Column(name, IMAGES, len(full), 0.0)
    if all(isinstance(cell, dict | list) for cell in full) and fits(answers_of, full, name):
        if any(answers_of(cell, name) for cell in full):
            return Column(name, ANSWERS, len(full), 0.0)
    if all(is_list(cell) for cell in full) and fits(names_in, full, None):
        return lists(name, [names_in(cell, None) or [] for cell in full])
    if all(isinstance(cell, date) for cell in full):
        return Column(name, TIMES, len(set(full)), 0.0)
    if not all(isinstance(cell, str | int | float | bool) or hasattr(cell, "item") for cell in full):
        return Column(name, OTHER, 0, 0.0, f"{kind_of(full[0])} in a row")
    return of_values(name, full)


def of_values(name: str, full: Sequence[Any]) -> Column:
    """A column with one value a row."""
    names = [name_of(cell) or "" for cell in full]
    counts, words = Counter(names), sum(len(each.split()) for each in names) / len(names)
    if len(names) > len(counts) == 1 and words <= LONG:
        return Column(name, OTHER, 1, words, f"always {names[0]!r}")
    numbers = fits(number_in, full)
    unclean = "" if numbers else uncleaned(Counter(str(cell).strip() for cell in full))
    few = words <= LABEL and not (unclean and len(counts) > MANY)
    few = few and classes([*map(cleaned, counts)] if unclean else [*counts], len(full), name)
    if unclean and not few:
        return Column(name, NUMBERS, len(counts), words, f"to be cleaned: {unclean}", unclean=unclean)
    whole = numbers and all((number_in(cell) or 0.0).is_integer() for cell in full)
    common: dict[str, Any] = {
        "binary": counts.keys() - MARKS <= FLAGS.keys(),
        "distinct": len(counts),
        "words": words,
        "whole": whole,
    }
    if not numbers and fits(moment, full):
        return Column(name, TIMES, **common)
    if all(DATE.fullmatch(each.strip()) for each in names):
        return Column(name, OTHER, more="dates that are not ISO, as 2024-05-31 is", **common)
    if not numbers and not unclean and (separator := separated(names)):
        parts = {part for each in names for part in names_in(each, separator) or []}
        more = f"{len(parts)} with {separator!r} between them"
        return Column(name, LABELS, len(parts), words, more, separator)
    if few:
        shown = listed(sorted(counts), 5) if len(counts) <= SHORT else ""
        more = f"{len(counts)}{shown and ': '}{shown}{HEADLESS if name in counts else ''}"
        return Column(name, CLASSES, more=more, separator=within(counts), **common)
    if numbers:
        values = [number_in(cell) or 0.0 for cell in full]
        return Column(name, NUMBERS, more=f"{min(values):g} to {max(values):g}", **common)
    shown = f"{words:.3g}"
    return Column(name, TEXT, more=f"{shown} {'word' if shown == '1' else 'words'} a row", **common)


def uncleaned(counts: Counter[str]) -> str:
    """What a column has between, beside or instead of its numbers; "" where it is no column of numbers.

    Two numbers with a comma between them are two labels, where other rows have one.
    """
    missing = [each for each in counts if each in MARKS or each.lower() == "nan"]
    found = {each: odd for each in counts if (odd := written(each)) is not None}
    plain = [each for each in counts if each not in found and each not in missing]
    if not fits(number_in, plain) or 2 * sum(counts[each] for each in missing) > counts.total():
        return ""
    if plain and found and not any(odd.unit or odd.thousands for odd in found.values()):
        if separated([*counts.elements()]):
            return ""
    sure = sorted(found, key=lambda each: len(found[each].values))
    return next((str(error) for each in (*sure, *missing) if (error := refusal(each)) is not None), "")


def refusal(cell: Any) -> DataError | None:
    """Why a cell is not read as a number."""
    try:
        number_in(cell)
    except DataError as error:
        return error
    return None


def cleaned(name: str) -> str:
    """A number as it could be meant, anything else as it is."""
    found = written(name)
    return name if found is None else found.values[0]


def lists(name: str, full: Sequence[list[str]]) -> Column:
    """A column of lists: labels where they are few, else words."""
    parts, sizes = Counter(part for each in full for part in each), {len(each) for each in full}
    entries = sum(parts.values())
    if len(sizes) == 1 and max(sizes) > 1 and parts.keys() <= FLAGS.keys():
        return Column(name, LABELS, max(sizes), 1.0, f"lists of {max(sizes)} times 0 or 1", flags=max(sizes))
    holds = LABELS if entries >= OFTEN * len(parts) else WORDS
    return Column(name, holds, len(parts), entries / len(full), f"lists, {counted(len(parts), 'name')}")


def classes(names: list[str], rows: int, column: str) -> bool:
    """Whether the values of a column are names of classes that occur again and again."""
    try:
        refuse_free_text(names, rows, column)
    except DataError:
        return False
    return len(names) >= 2 and rows >= OFTEN * len(names)


def separated(names: Sequence[str]) -> str | None:
    """What separates several labels in a cell, where the parts occur again and again and are short."""
    for separator in SEPARATORS:
        several = sum(separator in name for name in names)
        parts = Counter(part.strip() for name in names for part in name.split(separator))
        short = all(len(part.split()) <= LONG for part in parts)
        fewer = separator != SEPARATORS[-1] or len(parts) < len(set(names))
        if several and short and fewer and sum(parts.values()) >= OFTEN * len(parts):
            return separator
    return None


def within(counts: Counter[str]) -> str | None:
    """What could separate labels in names of classes: some of the parts are names of others, too."""
    for separator in SEPARATORS:
        several = [name for name in counts if separator in name]
        if any(part.strip() in counts for name in several for part in name.split(separator)):
            return separator
    return None


def fits(read: Callable[..., Any], cells: Sequence[Any], *more: Any) -> bool:
    """Whether every cell can be read so."""
    try:
        for cell in cells:
            read(cell, *more)
    except DataError:
        return False
    return True


def empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell


def is_list(cell: Any) -> bool:
    return isinstance(cell, list) or (isinstance(cell, str) and cell.lstrip().startswith("["))


def is_image(cell: Any) -> bool:
    """The bytes of an image as datasets keeps it, or the name of a file."""
    if isinstance(cell, str):
        return cell.lower().endswith(PICTURES) and not re.search(r"\s\w+\s", cell)
    return isinstance(cell, dict) and "bytes" in cell
