"""Tables of text with separators, csv and tsv: how one is written is found out, and its records are read."""

from __future__ import annotations

import csv
import io
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ftrun.errors import DataError, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Record = tuple[int, list[str]]  # the line it begins in, its fields
    Read = tuple[list[dict[str, Any]], list[str]]  # rows, and notes

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}  # the likeliest first
DECLARED = re.compile(
    r'"?sep=([^\w\s"]|\t)"?,*\r?\n', re.IGNORECASE
)  # the first line that Excel writes and reads
QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
APART = re.compile(r' +".*" *', re.DOTALL)  # a quoted field behind blanks, its quotes still there
HEAD = 1 << 16  # characters by which it is told how a csv file is written


@dataclass(frozen=True)
class Written:
    """How a file separates its fields, and what stands above its header."""

    separator: str = ","
    above: str = ""  # a line that names the separator
    blanks: bool = False  # whether blanks behind a separator are left out

    def notes(self, path: Path) -> list[str]:
        """What is not as in any csv file."""
        word = SEPARATORS.get(self.separator, repr(self.separator))
        found = [f"{path.name}: its fields are separated by {word}"] if self.separator != "," else []
        return found + [f"{path.name}: blanks behind {word} were left out"] * self.blanks

    def records(self, path: Path, lines: Iterable[str]) -> Iterator[Record]:
        """The fields of each record, with the line it begins in."""
        lines = iter(lines)
        above = self.above.count("\n")
        return records_of(path, islice(lines, above, None), self.separator, above + 1, self.blanks)


def written(text: str) -> Written:
    """How a csv file is written, by how it begins: the separator that it names or that fits its records.

    One fits that makes several columns of the header, and as many of every other record. Of several that do
    it is the likeliest; where none does it is a comma, or a semicolon where the header has no comma.
    """
    if found := DECLARED.match(text):
        return Written(found[1], found[0])
    tables = {mark: _loosely(text, mark) for mark in SEPARATORS if mark in text.partition("\n")[0]}
    several = [mark for mark, table in tables.items() if len(table[0]) > 1]
    even = [mark for mark in several if all(len(row) == len(tables[mark][0]) for row in tables[mark])]
    return Written(next(iter([*even, *(mark for mark in several if mark in ",;")]), ","))


def _loosely(text: str, mark: str) -> list[list[str]]:
    """The records that it begins with, as far as they can be told, whatever their quoting is like."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        lines = io.StringIO(text[:HEAD], newline="")
        rows = [row for row in csv.reader(lines, delimiter=mark) if row]
    except csv.Error:
        rows = []
    finally:
        csv.field_size_limit(limit)
    return rows[: -1 if len(text) > HEAD else None] or [[""]]


def told(path: Path, head: str) -> tuple[Written, int | None]:
    """How a csv file is written, and how many columns are read of it, by how it begins alone."""
    how = written(head)
    records = _begun(path, how, head)
    spaced = replace(how, blanks=True)
    if stand_apart(records, head, how.separator) and (others := _begun(path, spaced, head)) != records:
        how, records = spaced, others
    return how, named_width(records) if records else None


def _begun(path: Path, how: Written, head: str) -> list[Record]:
    """The records that it begins with, up to what is wrong."""
    found: list[Record] = []
    with suppress(DataError):
        found += how.records(path, io.StringIO(head, newline=""))
    return found[: -1 if len(head) > HEAD else None]


def read_csv(path: Path, text: str) -> Read:
    """The rows of a csv file and notes about it; DataError names the line of what is wrong."""
    how = written(text)
    try:
        found = list(how.records(path, io.StringIO(text, newline="")))
        rows, notes = rows_of(path, found)
    except DataError:
        plain = _plain(text, how.separator)[how.above.count("\n") :]
        if (spaced := _spaced(path, text, how)) is not None:
            return spaced
        if '"' not in text or _ragged(plain):
            raise
        rows, notes = rows_of(path, plain)
        return rows, [*how.notes(path), *notes, *_no_quoting(path, plain)]
    spaced = _spaced(path, text, how) if stand_apart(found, text, how.separator) else None
    if spaced is not None and spaced[0] != rows:
        return spaced
    return rows, [*how.notes(path), *notes]


def stand_apart(records: list[Record], text: str, separator: str) -> bool:
    """Whether blanks behind the separators of a text with these records are no part of the fields.

    So it is where quotes follow them, and where every field but a record's first begins with one.
    """
    fields = (field for _, record in records for field in record[1:] if field)
    if re.search(re.escape(separator) + ' +"', text) and any(map(APART.fullmatch, fields)):
        return True
    fields = (field for _, record in records for field in record[1:] if field)
    return next(fields, "").startswith(" ") and all(field[0] == " " for field in fields)


def _spaced(path: Path, text: str, how: Written) -> Read | None:
    """The rows without blanks behind separators; None where they are none then, or there is no such blank."""
    if f"{how.separator} " not in text:
        return None
    how = replace(how, blanks=True)
    try:
        rows, notes = rows_of(path, how.records(path, io.StringIO(text, newline="")))
    except DataError:
        return None
    return rows, [*how.notes(path), *notes]


def read_tsv(path: Path, text: str) -> Read:
    """The same of a tsv file, whose quotes are ordinary characters unless they are balanced."""
    plain = _plain(text, "\t")
    if '"' not in text:
        return rows_of(path, plain)
    if not _ragged(plain) and not _all_balanced(plain):
        return _unquoted(path, plain)
    try:
        rows, notes = rows_of(path, records_of(path, io.StringIO(text, newline=""), "\t"))
    except DataError:
        return _unquoted(path, plain)  # says the ragged line, read without quoting
    return rows, [*notes, f"{path.name}: fields in double quotes were unquoted"]


def _unquoted(path: Path, plain: list[Record]) -> Read:
    rows, notes = rows_of(path, plain)
    return rows, [*notes, *_no_quoting(path, plain)]


def _plain(text: str, separator: str) -> list[Record]:
    """The fields of each line that is not empty, quotes being ordinary characters."""
    return [(number, line.split(separator)) for number, line in enumerate(text.split("\n"), 1) if line]


def _ragged(records: list[Record]) -> bool:
    return any(len(fields) != len(records[0][1]) for _, fields in records)


def _all_balanced(records: list[Record]) -> bool:
    fields = (field for _, record in records for field in record if '"' in field)
    return all(QUOTED.fullmatch(field) for field in fields)


def _no_quoting(path: Path, records: list[Record]) -> list[str]:
    quoted = any(field.startswith('"') for _, record in records for field in record)
    return [f'{path.name}: read without quoting, a " is an ordinary character'] if quoted else []


def records_of(
    path: Path, lines: Iterable[str], separator: str, first: int = 1, blanks: bool = False
) -> Iterator[Record]:
    """The fields of each record with the line it begins in; DataError where the quoting is broken.

    `first` is the number of the first line; with `blanks` those behind a separator are left out.
    """
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=blanks)
    limit = csv.field_size_limit(sys.maxsize)
    line = first
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + first
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {_reason(str(error))}") from None
    finally:
        csv.field_size_limit(limit)


def _reason(said: str) -> str:
    if "end of data" in said:
        return "a quoted field is never closed"
    return "a carriage return in a field without quotes" if "new-line character" in said else said


def rows_of(path: Path, records: Iterable[Record]) -> Read:
    """The records below the header as rows, and a note where columns are left out."""
    whole = list(records)
    width = named_width(whole) if whole else None
    note = f"{path.name}: what stands behind the last column that has a name is empty, and left out"
    return list(headed(path, whole, width)), [note] * (width is not None)


def named_width(records: list[Record]) -> int | None:
    """How many columns have a name, where those behind them hold nothing in any record; else None."""
    (_, header), *rest = records
    named = len(header)
    while named > 1 and not header[named - 1].strip():
        named -= 1
    if named == len(header) and not (rest and len(rest[0][1]) > named):
        return None
    longer = [fields for _, fields in rest if len(fields) > named]
    empty = not any(field.strip() for fields in longer for field in fields[named:])
    return named if empty and (named < len(header) or len(longer) == len(rest)) else None


def headed(path: Path, records: Iterable[Record], width: int | None = None) -> Iterator[dict[str, Any]]:
    """Rows one at a time, of the first `width` columns where it is given and nothing stands beyond it.

    DataError names the line that has not as many fields as the header.
    """
    records = iter(records)
    if (first := next(records, None)) is None:
        raise DataError(f"{path} has no header")
    header = first[1]
    names = header[:width]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(f"{path}: the header names the column {twice!r} twice")
    for line, fields in records:
        if width is not None and not any(map(str.strip, fields[width:])):
            fields = fields[:width]
        if len(fields) != len(names):
            count = counted(len(fields), "field")
            raise DataError(f"{path}, line {line}: {count}, the header has {len(header)}")
        yield dict(zip(names, fields, strict=True))
