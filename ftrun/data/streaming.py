"""Rows of data larger than memory, one after the other: no file is ever held as a whole."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.data.content import BROKEN, ending, lines_of, open_bytes, packed, unreadable
from ftrun.data.hub import hub_data, names_in_place_of_numbers
from ftrun.data.sources import is_path, read_parts, saved_data, sources_of
from ftrun.data.tables import QUOTED, form_of, headed, json_row, records_of
from ftrun.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ftrun.data.sources import Given, Row

SEEN = 1000  # lines of a tsv file by which its quoting is told
BATCH = 1000  # rows of a parquet file or saved data set at once


def stream_rows(given: Given, split: str | None = None) -> Iterator[Row]:
    """The rows of all that a setting names, as `data.read_rows` has them, while they are read.

    Takes csv, tsv, jsonl, txt and parquet files (each as .gz, but parquet), lists and patterns of them,
    directories of datasets.save_to_disk and the Hub's. Raises DataError: for a wrong name at once, for a
    wrong line when it is reached.
    """
    sources = sources_of(given)
    for source in sources:
        if is_path(source) and saved_data(source, split) is None:
            _refuse(Path(source).expanduser())
    return chain.from_iterable(_rows(source, split) for source in sources)


def _refuse(path: Path) -> None:
    form = form_of(path)
    if form not in (*READERS, ".parquet") or (form == ".parquet" and packed(path)):
        possible = ", ".join([*(f"{name}[.gz]" for name in READERS), ".parquet"])
        raise DataError(f"{path} cannot be read bit by bit; possible: {possible}")


def _rows(source: str, split: str | None) -> Iterator[Row]:
    if source.startswith("embedded:"):
        yield from read_parts(source)[0].rows
        return
    data = hub_data(source) if source.startswith("hub:") else saved_data(source, split)
    if data is not None:
        for row in data:  # memory-mapped
            yield names_in_place_of_numbers(row, data.features)
        return
    path = Path(source).expanduser()
    form = ending(path)
    rows = _parquet(path) if form == ".parquet" else READERS[form](path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} has no rows")
    yield first
    yield from rows


def _txt(path: Path) -> Iterator[Row]:
    return ({"text": line} for line in lines_of(path))


def _jsonl(path: Path) -> Iterator[Row]:
    return (json_row(path, number, line) for number, line in enumerate(lines_of(path), 1) if line.strip())


def _csv(path: Path) -> Iterator[Row]:
    header = next(lines_of(path))
    delimiter = ";" if "," not in header and ";" in header else ","
    return _quoted(path, delimiter)


def _tsv(path: Path) -> Iterator[Row]:
    first = (line.split("\t") for line in islice(lines_of(path), SEEN) if line)
    fields = [field for record in first for field in record if '"' in field]
    if fields and all(QUOTED.fullmatch(field) for field in fields):
        return _quoted(path, "\t")
    return headed(path, ((n, line.split("\t")) for n, line in enumerate(lines_of(path), 1) if line))


def _quoted(path: Path, delimiter: str) -> Iterator[Row]:
    return headed(path, records_of(path, (line + "\n" for line in lines_of(path)), delimiter))


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with open_bytes(path) as file:
            for batch in parquet.ParquetFile(file).iter_batches(BATCH):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}") from None
    except BROKEN as error:
        raise unreadable(path, error) from None


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".txt": _txt,
}
