"""Shards: parts of the sources of a split, each read by itself; together they are its rows in order.

A shard is a source, or of one large file the lines that begin in some of its bytes (txt, jsonl) or some row
groups (parquet). What a shard says is told by its content, wherever it lies and whatever the others are.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.data.content import PIECE, Span, ending, packed, unreadable
from ftrun.data.sources import is_path, is_saved
from ftrun.data.streaming import files_behind, rows_of
from ftrun.data.tables import opened_parquet
from ftrun.runs import cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ftrun.data.sources import Row

SIZE = 64 << 20  # bytes of a shard, where a file can be read from its middle
UNBOUNDED = 1 << 62  # what the streams of a user are kept in, until the user removes it
FRESH = 2.0  # seconds since a file's last change, below which another change could have the same time
SPLITTABLE = (".txt", ".jsonl")  # where a line end is the end of a row


@dataclass(frozen=True)
class Shard:
    """A source or a part of one, of a split."""

    source: str
    split: str | None = None  # whose it is, for a saved data set of several
    span: Span | None = None

    def rows(self, columns: Sequence[str] = ()) -> Iterator[Row]:
        """The rows in order, of a parquet file some columns alone; DataError names a row that is wrong."""
        return rows_of(self.source, self.split, columns, self.span)

    def before(self) -> int:
        """The rows of the same file before this shard, which it reads again to count them."""
        if self.span is None or not self.span[0]:
            return 0
        if ending(Path(self.source)) == ".parquet":
            with opened_parquet(Path(self.source).expanduser()) as file:
                groups = [file.metadata.row_group(group) for group in range(self.span[0])]
                return sum(group.num_rows for group in groups)
        return sum(1 for _ in rows_of(self.source, self.split, span=(0, self.span[0])))

    def content(self) -> str:
        """A hash of what it says: of a file its bytes or a part of them, of the Hub the pinned name."""
        name, files = files_behind(self.source, self.split)
        form = ending(Path(self.source))
        lines, groups = (None, self.span) if form == ".parquet" else (self.span, None)
        begins = lines is None or not lines[0]  # where a mark of UTF-8 may stand
        found = [name, form, [digest_of(path, lines) for path in files], groups, begins]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def shards_of(sources: Sequence[str], split: str | None, lines: bool = True) -> list[Shard]:
    """The shards of the sources in order; without `lines` a text is never cut between two of its lines."""
    return [shard for source in sources for shard in _of_one(source, split, lines)]


def _of_one(source: str, split: str | None, lines: bool) -> list[Shard]:
    path = Path(source).expanduser()
    if not is_path(source) or is_saved(source) or packed(path):  # gzip is only read from its beginning
        return [Shard(source, split)]
    if ending(path) in SPLITTABLE and lines:
        spans = _lines(path)
    elif ending(path) == ".parquet":
        with opened_parquet(path) as file:
            sizes = [file.metadata.row_group(n).total_byte_size for n in range(file.num_row_groups)]
        spans = _groups(sizes)
    else:
        spans = []
    return [Shard(source, split, span) for span in spans] if len(spans) > 1 else [Shard(source, split)]


def _lines(path: Path) -> list[Span]:
    """Whole lines of about SIZE bytes together."""
    size = path.stat().st_size
    edges = [0]
    with path.open("rb") as file:
        while edges[-1] + SIZE < size:
            file.seek(edges[-1] + SIZE - 1)
            while (piece := file.readline(PIECE)) and not piece.endswith(b"\n"):
                pass
            edges.append(file.tell())
    return [*pairwise([*edges, size])] if edges[-1] < size else [*pairwise(edges)]


def _groups(sizes: list[int]) -> list[Span]:
    """Neighbouring row groups of about SIZE bytes together."""
    found, begin, held = [], 0, 0
    for end, size in enumerate(sizes, 1):
        held += size
        if held >= SIZE or end == len(sizes):
            found.append((begin, end))
            begin, held = end, 0
    return found


def in_turn(count: int) -> Iterator[int]:
    """The numbers below `count`, from another one on in each process of a run: each makes its own first.

    What it comes to after these was mostly made by the others meanwhile.
    """
    rank, processes = (int(os.environ.get(name, least)) for name, least in (("RANK", 0), ("WORLD_SIZE", 1)))
    first = rank * count // processes
    return iter([*range(first, count), *range(first)])


def directory() -> Path:
    """Where what was read of streams is kept."""
    return cache.directory("streams")


def digest_of(path: Path, span: Span | None) -> str:
    """The sha256 of a file's bytes, of all or of a part; kept for as long as the file is not changed."""
    status = path.stat()
    stamp = json.dumps([str(path.absolute()), status.st_size, status.st_mtime_ns, span])
    place = directory() / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.sha256"
    try:
        return place.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    found, (begin, end) = hashlib.sha256(), span or (0, status.st_size)
    try:
        with path.open("rb") as file:
            file.seek(begin)
            while piece := file.read(min(1 << 20, end - begin)):
                found.update(piece)
                begin += len(piece)
    except OSError as error:
        raise unreadable(path, error) from None
    if time.time() - status.st_mtime > FRESH:
        with cache.made(place, UNBOUNDED) as beside:
            beside.write_text(found.hexdigest(), encoding="ascii")
    return found.hexdigest()
