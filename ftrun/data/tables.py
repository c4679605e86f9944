"""Tables: csv, tsv, jsonl, json, txt and parquet, gzipped or not, become rows; some are written again."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from ftrun.data.content import bytes_of, ending, refuse_missing, text_of
from ftrun.errors import ConfigError, DataError, UserError, counted, disk_full, listed, near
from ftrun.runs.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    Record = tuple[int, list[str]]  # the line it begins in, its fields
    Read = tuple[list[dict[str, Any]], list[str]]  # rows, and notes

Columns = str | list[str]  # one column of texts, or a pair of them
ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet")
HEADED = (".csv", ".tsv")
WRITTEN = (".csv", ".tsv", ".jsonl")
QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')


def read_table(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a file and notes about it; DataError when it is not what it should be."""
    form = form_of(path)
    rows, notes = (_parquet(path), []) if form == ".parquet" else READERS[form](path, text_of(path))
    if not rows:
        raise DataError(f"{path} has no rows" + (", only a header line" if form in HEADED else ""))
    return rows, notes


def form_of(path: Path) -> str:
    """The ending of a data file that exists; DataError when it says nothing, or there is no such file."""
    form = ending(path)
    if path.is_dir():
        raise DataError(
            f"{path} is a directory; a data file is one of {', '.join(ENDINGS)} (a pattern such as"
            f" {path}/*.csv takes several), and one of datasets.save_to_disk holds a state.json"
        )
    if form not in ENDINGS:
        raise DataError(
            f"{path}: cannot tell the format from {form or 'no ending'!r}; possible: {', '.join(ENDINGS)},"
            " each also as .gz"
        )
    refuse_missing(path)
    return form


def check_writable(path: Path, endings: tuple[str, ...] = WRITTEN) -> None:
    """ConfigError when this file could not be written, raised before the work is done."""
    if path.suffix.lower() not in endings:
        raise ConfigError(
            f"{path}: cannot tell what to write from its ending; possible: {', '.join(endings)}"
        )
    if path.is_dir():
        raise ConfigError(f"{path} is a directory")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: there is no directory {path.parent}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise ConfigError(f"{path}: no permission to write there")


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows, whole or not at all; columns in order of appearance, a missing value empty or null."""
    check_writable(path)
    form = path.suffix.lower()
    if form == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    else:
        buffer = io.StringIO(newline="")
        columns = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(
            buffer, columns, delimiter="," if form == ".csv" else "\t", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows({name: flat(value) for name, value in row.items()} for row in rows)
        text = buffer.getvalue()
    try:
        write_atomically(path, text)
    except OSError as error:
        raise disk_full(error) or UserError(f"{path} could not be written: {error.strerror}") from None


def columns_of(text: Columns) -> list[str]:
    """The names of one column of texts, or of a pair of them."""
    return [text] if isinstance(text, str) else list(text)


def refuse_absent(setting: str, column: str, columns: list[str], source: str) -> None:
    """DataError where a table has no column of this name."""
    if column not in columns:
        raise DataError(
            f"task.{setting}={column}: {source} has no such column; it has {listed(columns)}"
            f"{near(column, columns)}"
        )


def flat(value: Any) -> Any:
    """A list or an object as JSON, which is how a csv can hold one."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


def _csv(path: Path, text: str) -> Read:
    delimiter, notes = ",", []
    header = text.partition("\n")[0]
    if "," not in header and ";" in header:
        delimiter, notes = ";", [f"{path.name}: its fields are separated by semicolons"]
    try:
        return rows_of(path, records_of(path, io.StringIO(text, newline=""), delimiter)), notes
    except DataError:
        plain = _plain(text, delimiter)
        if '"' not in text or _ragged(plain):
            raise
        return rows_of(path, plain), [*notes, *_no_quoting(path, plain)]


def _tsv(path: Path, text: str) -> Read:
    plain = _plain(text, "\t")
    if '"' not in text:
        return rows_of(path, plain), []
    if not _ragged(plain) and not _all_balanced(plain):
        return rows_of(path, plain), _no_quoting(path, plain)
    try:
        rows = rows_of(path, records_of(path, io.StringIO(text, newline=""), "\t"))
    except DataError:
        return rows_of(path, plain), _no_quoting(path, plain)  # says the ragged line, read without quoting
    return rows, [f"{path.name}: fields in double quotes were unquoted"]


def _plain(text: str, delimiter: str) -> list[Record]:
    """The fields of each line that is not empty, quotes being ordinary characters."""
    return [(number, line.split(delimiter)) for number, line in enumerate(text.split("\n"), 1) if line]


def _ragged(records: list[Record]) -> bool:
    return any(len(fields) != len(records[0][1]) for _, fields in records)


def _all_balanced(records: list[Record]) -> bool:
    fields = (field for _, record in records for field in record if '"' in field)
    return all(QUOTED.fullmatch(field) for field in fields)


def _no_quoting(path: Path, records: list[Record]) -> list[str]:
    quoted = any(field.startswith('"') for _, record in records for field in record)
    return [f'{path.name}: read without quoting, a " is an ordinary character'] if quoted else []


def records_of(path: Path, text: Iterable[str], delimiter: str) -> Iterator[Record]:
    """The fields of each record with the line it begins in; DataError where the quoting is broken."""
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(sys.maxsize)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        reason = "a quoted field is never closed" if "end of data" in str(error) else str(error)
        raise DataError(f"{path}, line {line}: {reason}") from None
    finally:
        csv.field_size_limit(limit)


def rows_of(path: Path, records: Iterable[Record]) -> list[dict[str, Any]]:
    """The records below the header as rows."""
    return list(headed(path, records))


def headed(path: Path, records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The same, one at a time; DataError names the line that has not as many fields as the header."""
    records = iter(records)
    _, header = next(records)
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise DataError(f"{path}: the header names the column {twice!r} twice")
    for line, fields in records:
        if len(fields) != len(header):
            raise DataError(
                f"{path}, line {line}: {counted(len(fields), 'field')}, the header has {len(header)}"
            )
        yield dict(zip(header, fields, strict=True))


def _jsonl(path: Path, text: str) -> Read:
    lines = enumerate(text.split("\n"), 1)
    return [json_row(path, number, line) for number, line in lines if line.strip()], []


def json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    """One line of a jsonl file; DataError names it where it is no JSON object."""
    try:
        row = json.loads(line)
        if "\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from None
    except UnicodeEncodeError:
        raise DataError(
            f"{path}, line {number}: half of a surrogate pair, which is not a character"
        ) from None
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: a {type(row).__name__}; each line is one JSON object")
    return row


def _json(path: Path, text: str) -> Read:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise DataError(
                f"{path} has one JSON value after the other; such a file ends in .jsonl"
            ) from None
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: a table in JSON is one list of objects, [{{…}}, …]")
    return rows, []


def _txt(path: Path, text: str) -> Read:
    return [{"text": line} for line in text.removesuffix("\n").split("\n")], []


READERS: dict[str, Callable[[Path, str], Read]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".json": _json,
    ".txt": _txt,
}


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.read_table(pyarrow.BufferReader(bytes_of(path))).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}") from None
