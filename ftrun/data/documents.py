"""Documents: plain text as it lies in files, or the rows of a table, whole or one at a time."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftrun.data.content import PROSE, ended_lines_of, ending, place_of
from ftrun.data.sources import is_path, is_saved, refuse_missing_source, sources_of
from ftrun.data.tables import ENDINGS
from ftrun.errors import DataError, counted, kind_of

if TYPE_CHECKING:
    from ftrun.data.content import Span
    from ftrun.data.sources import Row

PLAIN = (".txt", ".text", ".md")  # each also as .gz
TENTH = 10  # of the documents are carved for a split
FEW = 3  # documents, below which a split is split off their ends


class Document(NamedTuple):
    """A text and, where a row has one, its prompt."""

    prompt: str
    text: str


class Columns(NamedTuple):
    """Where a table has its texts; prompt and completion take the place of text."""

    text: str
    prompt: str | None
    completion: str | None


def files_of(setting: str, value: Any) -> list[str]:
    """The sources that a name, a glob, a directory or a list of them means; DataError when there is none."""
    found: list[str] = []
    for name in map(str, value if isinstance(value, list) else [value]):
        if not is_path(name):
            found.append(name)
            continue
        place = place_of(name)
        if place.is_file() or is_saved(name):
            found.append(name)
        elif place.is_dir():
            inside = sorted(str(path) for path in place.rglob("*") if ending(path) in (*PLAIN, *ENDINGS))
            if not inside:
                raise DataError(
                    f"{setting}={name}: the directory holds no {', '.join(dict.fromkeys([*PLAIN, *ENDINGS]))}"
                )
            found += inside
        elif glob.has_magic(name) and (matches := sorted(glob.glob(str(place), recursive=True))):
            found += matches
        else:
            refuse_missing_source(sources_of(name)[0])
    return found


def documents(
    sources: Iterable[str], columns: Columns, how: str | None, split: str | None = None
) -> Iterator[Document]:
    """Every document of the sources in order, empty ones included; DataError for what cannot be read.

    `split` is whose they are, for a saved data set of several.
    """
    from ftrun.data.rows import read_rows

    for source in sources:
        yield from of_source(source, columns, how, partial(read_rows, source, split))


def of_source(
    source: str,
    columns: Columns,
    how: str | None,
    rows: Callable[[], Iterable[Row]],
    span: Span | None = None,
    before: Callable[[], int] = int,
) -> Iterator[Document]:
    """Those of one source or of a span of it: its `rows`, `before` which are others, or its lines."""
    plain = is_path(source) and ending(Path(source)) in PLAIN
    if plain:
        lines = ended_lines_of(Path(source).expanduser(), PROSE, span)
        yield from (Document("", text) for text in parted(lines, how or "file"))
        return
    found = of_rows(rows(), source, columns, before)
    if how in (None, "line") or columns.completion is not None:
        yield from found
    else:
        pieces = (line + "\n" for document in found for line in lines_in(document.text))
        yield from (Document("", text) for text in parted(pieces, how))


def lines_in(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def parted(lines: Iterable[str], how: str) -> Iterator[str]:
    """The documents that lines with their ends hold: one, a line each, or what blank lines separate."""
    if how == "file":
        yield "".join(lines)
    elif how == "line":
        yield from (line.rstrip("\n") for line in lines)
    else:
        held: list[str] = []
        for line in chain(lines, [""]):
            if line.strip():
                held.append(line)
            elif held:
                yield "".join(held).rstrip("\n")
                held = []


def of_rows(
    rows: Iterable[Row], source: str, columns: Columns, before: Callable[[], int]
) -> Iterator[Document]:
    for number, row in enumerate(rows, 1):
        try:
            found = document_of(row, number, source, columns)
        except DataError:  # which names the row
            found = document_of(row, number + before(), source, columns)
        yield found


def document_of(row: dict[str, Any], number: int, source: str, columns: Columns) -> Document:
    """The document of one row; DataError when a column is missing or holds no text."""
    if columns.completion is None:
        return Document("", text_of(row, number, source, "text", columns.text))
    prompt = text_of(row, number, source, "prompt", str(columns.prompt))
    return Document(prompt, text_of(row, number, source, "completion", columns.completion))


def text_of(row: dict[str, Any], number: int, source: str, setting: str, column: str) -> str:
    if column not in row:
        raise DataError(
            f"task.{setting}={column}: row {number} of {source} has no such column; it has {', '.join(row)}"
        )
    value = row[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"task.{setting}={column}: row {number} of {source} holds {kind_of(value)}, not text")
    return value


def batched(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """The documents in lists of about a megabyte."""
    held: list[Document] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document.text)
        if size > 1_000_000:
            yield held
            held, size = [], 0
    if held:
        yield held


def number_of(document: Sequence[str]) -> int:
    """A number of 64 bits that depends on the texts alone, the same everywhere."""
    return int.from_bytes(hashlib.sha256("\0".join(document).encode()).digest()[:8], "big")


def carved(whole: list[Document], missing: list[str]) -> tuple[dict[str, list[Document]], list[str]]:
    """Train and the missing splits, a tenth of the documents each, chosen by their content.

    Equal documents go to the same split. One or two texts give their ends: the last tenth is the test, the
    tenth before it validation. DataError when too little is left.
    """
    if not missing:
        return {"train": whole}, []
    if len({*whole}) < FEW:
        return tails(whole, missing)
    order = sorted({number_of(document) for document in whole})
    share = max(1, len(order) // TENTH)
    held = {number: split for i, split in enumerate(missing) for number in order[i * share : (i + 1) * share]}
    found: dict[str, list[Document]] = {split: [] for split in ("train", *missing)}
    for document in whole:
        found[held.get(number_of(document), "train")].append(document)
    notes = [
        f"{split}: {counted(len(found[split]), 'document')} split off train (a tenth)" for split in missing
    ]
    return found, notes


def tails(whole: list[Document], missing: list[str]) -> tuple[dict[str, list[Document]], list[str]]:
    """The ends of each text, cut after a line, or a word where there is one line."""
    found: dict[str, list[Document]] = {split: [] for split in ("train", *missing)}
    for prompt, text in whole:
        end, left = len(text), text
        for split in missing:
            end = boundary(left, end - len(text) // TENTH)
            found[split].append(Document("", left[end:]))
            left = left[:end]
        found["train"].append(Document(prompt, left))
    if not all(document.text.strip() for part in found.values() for document in part):
        raise DataError(f"task.train is too short to carve {' and '.join(missing)} from; set them")
    notes = [f"{split}: a tenth of the text split off the end of train" for split in missing]
    return found, notes


def boundary(text: str, near: int) -> int:
    """The place after the next line's end, else after the next blank, else `near` itself."""
    for mark in ("\n", " "):
        place = text.find(mark, near)
        if 0 <= place < len(text) - 1 and place - near < max(200, len(text) // 100):
            return place + 1
    return near


def digest(sources: Iterable[str], split: str) -> str:
    """Of the content of files, read in pieces, and of what is not a file its pinned name."""
    from ftrun.data.streaming import files_behind

    found = hashlib.sha256()
    for source in sources:
        name, files = files_behind(source, split)
        found.update(name.encode())
        for path in files:
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    found.update(piece)
    return found.hexdigest()
