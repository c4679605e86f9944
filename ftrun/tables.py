"""Tables: csv, tsv, jsonl and parquet become rows and back; what is wrong in one is said with its line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, DataError, UserError, near
from ftrun.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
WRITTEN = (".csv", ".tsv", ".jsonl")
QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')


def read_table(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a file and what is worth saying about it; DataError when it is not what it should be."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DataError(
            f"{path}: cannot tell the format from {ending or 'no ending'!r}; possible: {', '.join(ENDINGS)}"
        )
    _refuse_missing(path)
    notes: list[str] = []
    if ending == ".parquet":
        rows = _parquet(path)
    elif ending == ".jsonl":
        rows = _jsonl(path, _text(path))
    elif ending == ".csv":
        rows = _rows(path, _records(path, _text(path), ","))
    else:
        rows, notes = _tsv(path, _text(path))
    if not rows:
        raise DataError(f"{path} has no rows" + ("" if ending in ENDINGS[2:] else ", only a header line"))
    return rows, notes


def check_writable(path: Path, endings: tuple[str, ...] = WRITTEN) -> None:
    """ConfigError when this file could not be written, said before the work is done."""
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
    ending = path.suffix.lower()
    if ending == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    else:
        buffer = io.StringIO(newline="")
        columns = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(
            buffer, columns, delimiter="," if ending == ".csv" else "\t", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows({name: flat(value) for name, value in row.items()} for row in rows)
        text = buffer.getvalue()
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror}") from None


def flat(value: Any) -> Any:
    """A list or an object as JSON, which is how a csv can hold one."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


def read_text(path: Path) -> str:
    """A whole file of UTF-8 text, line breaks as "\\n"; DataError says what is wrong with it."""
    _refuse_missing(path)
    return _text(path)


def _refuse_missing(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path} is a directory; a data file is one of {', '.join(ENDINGS)}")
    if not path.exists():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        where = "" if path.parent.is_dir() else f": there is no directory {path.parent}"
        raise DataError(f"{path} does not exist{where}{near(path.name, names)}")


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16; save it as UTF-8")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise DataError(f"{path} is a binary file, not text (a NUL byte in line {line})")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = data[error.start : error.start + 1].hex()
        raise DataError(
            f"{path}, line {line}: not valid UTF-8 (byte 0x{found}); save the file as UTF-8"
        ) from None
    if not text.strip():
        raise DataError(f"{path} is empty")
    text = text.replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")


def _tsv(path: Path, text: str) -> tuple[list[dict[str, Any]], list[str]]:
    lines = enumerate(text.split("\n"), 1)
    plain = [(number, line.split("\t")) for number, line in lines if line]
    if '"' not in text:
        return _rows(path, plain), []
    width = len(plain[0][1])
    ragged = any(len(fields) != width for _, fields in plain)
    if not ragged and not _all_balanced(plain):
        return _rows(path, plain), _no_quoting(path, plain)
    try:
        rows = _rows(path, _records(path, text, "\t"))
    except DataError:
        return _rows(path, plain), _no_quoting(path, plain)  # says the ragged line, read without quoting
    return rows, [f"{path.name}: fields in double quotes were unquoted"]


def _all_balanced(records: list[tuple[int, list[str]]]) -> bool:
    fields = (field for _, record in records for field in record if '"' in field)
    return all(QUOTED.fullmatch(field) for field in fields)


def _no_quoting(path: Path, records: list[tuple[int, list[str]]]) -> list[str]:
    quoted = any(field.startswith('"') for _, record in records for field in record)
    return [f'{path.name}: read without quoting, a " is an ordinary character'] if quoted else []


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each record with the line it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(sys.maxsize)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        said = "a quoted field is never closed" if "end of data" in str(error) else str(error)
        raise DataError(f"{path}, line {line}: {said}") from None
    finally:
        csv.field_size_limit(limit)


def _rows(path: Path, records: Any) -> list[dict[str, Any]]:
    records = iter(records)
    _, header = next(records)
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise DataError(f"{path}: the header names the column {twice!r} twice")
    rows = []
    for line, fields in records:
        if len(fields) != len(header):
            raise DataError(f"{path}, line {line}: {len(fields)} fields, the header has {len(header)}")
        rows.append(dict(zip(header, fields, strict=True)))
    return rows


def _jsonl(path: Path, text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "\\ud" in line.lower():
                json.dumps(row, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})"
            ) from None
        except UnicodeEncodeError:
            raise DataError(
                f"{path}, line {number}: half of a surrogate pair, which is no character"
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: a {type(row).__name__}; each line is one JSON object")
        rows.append(row)
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}") from None
