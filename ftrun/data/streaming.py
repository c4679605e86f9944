"""Rows of data larger than memory, one after the other: no file is ever held as a whole."""

from __future__ import annotations

import json
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.data.content import LINE, PIECE, ending, lines_of, parsed, pieces_of
from ftrun.data.delimited import HEAD, QUOTED, headed, named_width, records_of, told
from ftrun.data.hub import cached, hub_stream, names_in_place_of_numbers
from ftrun.data.sources import is_path, read_parts, saved_data, sources_of
from ftrun.data.tables import form_of, json_row, parquet_rows
from ftrun.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ftrun.data.content import Span
    from ftrun.data.sources import Given, Row

SEEN = 1000  # lines of a tsv file by which its quoting is told


def stream_rows(given: Given, split: str | None = None) -> Iterator[Row]:
    """The rows of all that a setting names, as `data.read_rows` has them, while they are read.

    Raises DataError: for a wrong name at once, for a wrong line when it is reached.
    """
    sources = sources_of(given)
    for source in sources:
        look_at(source, split)
    return chain.from_iterable(rows_of(source, split) for source in sources)


def look_at(source: str, split: str | None) -> None:
    """DataError where a source is no file of a known format, and nothing else that has rows."""
    if is_path(source) and saved_data(source, split) is None:
        form_of(Path(source).expanduser())


def files_behind(source: str, split: str | None) -> tuple[str, list[Path]]:
    """What tells the content of a source apart from all others: a name, and files that hold its rows.

    A data set of the Hub that is not in the local cache has no files; its name holds the commit.
    """
    if source.startswith("embedded:"):
        return source, []
    hub = source.startswith("hub:")
    data = cached(source) if hub else saved_data(source, split)
    if data is not None:
        return source if hub else "saved", [Path(file["filename"]) for file in data.cache_files]
    return (source, []) if hub else ("file", [Path(source).expanduser()])


def rows_of(
    source: str, split: str | None, columns: Sequence[str] = (), span: Span | None = None
) -> Iterator[Row]:
    """The rows of one source; of a parquet file some columns alone.

    Those of a `span` are the lines that begin in these bytes of a txt or jsonl file, or some row groups.
    """
    if source.startswith("embedded:"):
        yield from read_parts(source)[0].rows
        return
    if source.startswith("hub:"):
        yield from hub_stream(source)
        return
    if (data := saved_data(source, split)) is not None:
        for row in data:  # memory-mapped
            yield names_in_place_of_numbers(row, data.features)
        return
    path = Path(source).expanduser()
    form = ending(path)
    if span is not None:
        yield from SPANS[form](path, columns, span)
        return
    rows = parquet_rows(path, columns) if form == ".parquet" else READERS[form](path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} has no rows")
    yield first
    yield from rows


def _txt(path: Path, span: Span | None = None) -> Iterator[Row]:
    return ({"text": line} for line in lines_of(path, span))


def _jsonl(path: Path, span: Span | None = None) -> Iterator[Row]:
    for number, line in enumerate(lines_of(path, span), 1):
        if line.strip():
            try:
                row = json_row(path, number, line)
            except DataError:  # which names the line, counted from the beginning of the file
                before = sum(1 for _ in lines_of(path, (0, span[0]))) if span and span[0] else 0
                row = json_row(path, number + before, line)
            yield row


def _json(path: Path) -> Iterator[Row]:
    """Of one list of objects, each when it is complete."""
    pieces = pieces_of(path)
    text = next(pieces, "").lstrip()
    if not text:
        raise DataError(f"{path} is empty")
    if not text.startswith("["):
        raise DataError(f"{path}: a table in JSON is one list of objects, [{{…}}, …]")
    text = _read_on(path, text[1:], pieces)
    for number in count(1):
        if text.startswith("]") and number == 1:
            return
        row, text = _object(path, text, pieces, number)
        yield row
        text = _read_on(path, text, pieces)
        if text.startswith("]"):
            return
        if not text.startswith(","):
            raise DataError(f"{path}: not JSON (no comma behind object {number})")
        text = _read_on(path, text[1:], pieces)


def _read_on(path: Path, text: str, pieces: Iterator[str]) -> str:
    """The text from the next character that is no blank."""
    while not (text := text.lstrip()):
        if not (text := next(pieces, "")):
            raise DataError(f"{path}: not JSON (its list does not end)")
    return text


def _object(path: Path, text: str, pieces: Iterator[str], number: int) -> tuple[Row, str]:
    """The object that the text begins with, and what follows it."""
    while True:
        try:
            row, end = parsed(text, f"{path}, object {number}", json.JSONDecoder().raw_decode)
        except json.JSONDecodeError as error:
            more = "".join(islice(pieces, 1 + len(text) // PIECE))  # as much again
            if not more or len(text) > LINE:
                raise DataError(f"{path}: not JSON (object {number}: {error.msg})") from None
            text += more
        else:
            if not isinstance(row, dict):
                raise DataError(f"{path}: a table in JSON is one list of objects, [{{…}}, …]")
            return row, text[end:]


def _csv(path: Path) -> Iterator[Row]:
    head = ""
    for line in lines_of(path):
        head += line + "\n"
        if len(head) > HEAD:
            break
    how, width = told(path, head)
    return headed(path, how.records(path, _ended(path)), width)


def _tsv(path: Path) -> Iterator[Row]:
    first = [(n, line.split("\t")) for n, line in enumerate(islice(lines_of(path), SEEN), 1) if line]
    fields = [field for _, record in first for field in record if '"' in field]
    quoted = fields and all(QUOTED.fullmatch(field) for field in fields)
    plain = ((n, line.split("\t")) for n, line in enumerate(lines_of(path), 1) if line)
    records = records_of(path, _ended(path), "\t") if quoted else plain
    return headed(path, records, named_width(first))


def _ended(path: Path) -> Iterator[str]:
    return (line + "\n" for line in lines_of(path))


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".json": _json,
    ".txt": _txt,
}
SPANS: dict[str, Callable[[Path, Sequence[str], Span], Iterator[Row]]] = {
    ".jsonl": lambda path, columns, span: _jsonl(path, span),
    ".txt": lambda path, columns, span: _txt(path, span),
    ".parquet": parquet_rows,
}
