"""Tables: csv, tsv, jsonl, json, txt and parquet, gzipped or not, become rows; some are written again."""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import contextmanager
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from ftrun.data.content import (
    BROKEN,
    ending,
    open_bytes,
    packed,
    parsed,
    refuse_missing,
    text_of,
    unreadable,
)
from ftrun.data.delimited import read_csv, read_tsv
from ftrun.errors import ConfigError, DataError, UserError, disk_full, kind_of, listed, near, needs
from ftrun.runs.files import why_unwritable, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ftrun.data.content import Span
    from ftrun.data.delimited import Read

Columns = str | list[str]  # one column of texts, or a pair of them
ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet")
NAME = 230  # bytes of the name of a written file, beside which another one is written first; 255 for both
PARQUET = b"PAR1"  # how a parquet file begins and ends
BATCH = 1000  # rows of it at once
HEADED = (".csv", ".tsv")
WRITTEN = (".csv", ".tsv", ".jsonl")


def read_table(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a file and notes about it; DataError when it is not what it should be."""
    form = form_of(path)
    rows, notes = (
        (list(parquet_rows(path)), [])
        if form == ".parquet"
        else READERS[form](path, text_of(path, rows=form != ".json"))
    )
    if not rows:
        raise DataError(f"{path} has no rows" + (", only a header line" if form in HEADED else ""))
    return rows, notes


def form_of(path: Path) -> str:
    """The ending of a data file that exists; DataError when it says nothing, or there is no such file."""
    form = ending(path)
    if os.path.isdir(path):
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
    if len(os.fsencode(path.name)) > NAME:
        raise ConfigError(f"{path.name[:40]}…: the name of a file that is written has {NAME} bytes at most")
    if path.is_dir():
        raise ConfigError(f"{path} is a directory")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: there is no directory {path.parent}")
    if reason := why_unwritable(path.absolute().parent):
        raise ConfigError(f"{path}: nothing can be written there ({reason})")


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


def one_name(columns: Columns) -> str:
    """The name of a column; of several all of them, as a setting has them."""
    return columns if isinstance(columns, str) else f"[{','.join(columns)}]"


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


def _jsonl(path: Path, text: str) -> Read:
    lines = enumerate(text.split("\n"), 1)
    return [json_row(path, number, line) for number, line in lines if line.strip()], []


def json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    """One line of a jsonl file; DataError names it where it is no JSON object."""
    try:
        row = parsed(line, f"{path}, line {number}")
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: {kind_of(row)}; each line is one JSON object")
    return row


def _json(path: Path, text: str) -> Read:
    try:
        rows = parsed(text, str(path))
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
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": _jsonl,
    ".json": _json,
    ".txt": _txt,
}


def parquet_rows(
    path: Path, columns: Sequence[str] = (), groups: Span | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file, BATCH of them in memory at once; DataError when it is none.

    Of some `columns` alone, unless it lacks one of them, and of the row groups from one to before another.
    """
    with opened_parquet(path) as file:
        import pyarrow

        wanted = list(columns) if columns and {*columns} <= {*file.schema_arrow.names} else None
        for group in range(*(groups or (0, file.num_row_groups))):
            try:
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=wanted):
                    yield from batch.to_pylist()
            except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
                where = f" (row group {group + 1} of {file.num_row_groups})"
                raise not_parquet(path, error, where) from None


@contextmanager
def opened_parquet(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`; DataError where the file is none."""
    needs(str(path), "hub", "pyarrow")
    import pyarrow
    from pyarrow import parquet

    with TemporaryFile() as unpacked:
        try:
            file = open_bytes(path)
            if packed(path):  # its end says where its columns are
                with file:
                    begin = file.read(len(PARQUET))
                    unpacked.write(begin)
                    if begin == PARQUET:
                        copyfileobj(file, unpacked)
                file = unpacked
        except BROKEN as error:
            raise unreadable(path, error) from None
        with file:
            try:
                found = parquet.ParquetFile(file)
            except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
                raise not_parquet(path, error) from None
            yield found


def not_parquet(path: Path, error: BaseException, where: str = "") -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} cannot be read as parquet{where}: {reason}")
