"""Documents of a split that is larger than memory, read shard by shard whenever they are looked at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.data.content import ending
from ftrun.data.documents import PLAIN, Columns, Document, number_of, of_source
from ftrun.data.sources import is_path
from ftrun.data.streamed.shards import Shard, shards_of
from ftrun.data.streaming import look_at

if TYPE_CHECKING:
    from collections.abc import Iterable

HUNDREDTH = 100  # of the rows are carved for a split


def holder(texts: Sequence[str], hold: Sequence[str]) -> str:
    """The split that texts go to: one in a hundred to each of `hold`, by what they say, else train."""
    chance = number_of(texts) % HUNDREDTH
    return hold[chance] if chance < len(hold) else "train"


@dataclass(frozen=True)
class Stream:
    """The documents of a split; `mine` is its name, and `hold` those that are carved from the same rows.

    `most` is how many documents it has at most.
    """

    shards: list[Shard]
    columns: Columns
    how: str
    hold: list[str]
    mine: str
    most: int | None = None

    def __iter__(self) -> Iterator[Document]:
        return islice(self.own(), self.most)

    def own(self) -> Iterator[Document]:
        for document in (found for shard in self.shards for found in self.read(shard)):
            if document.text.strip() and (not self.hold or holder(document, self.hold) == self.mine):
                yield document

    def read(self, shard: Shard) -> Iterator[Document]:
        wanted = [column for column in self.columns if column is not None]
        return of_source(
            shard.source, self.columns, self.how, lambda: shard.rows(wanted), shard.span, shard.before
        )

    def parts(self) -> list[Stream]:
        """The same documents in streams of one shard each; one stream where their number is bounded."""
        return [self] if self.most is not None else [replace(self, shards=[each]) for each in self.shards]

    def content(self) -> str:
        """A hash of all that the documents depend on."""
        found = [[each.content() for each in self.shards], self.columns, self.how, self.hold, self.mine]
        return hashlib.sha256(json.dumps([*found, self.most]).encode()).hexdigest()


def document_shards(sources: Iterable[str], split: str, how: str) -> list[Shard]:
    """The shards of sources of documents; DataError for a source that has no rows."""
    found = []
    for source in sources:
        plain = is_path(source) and ending(Path(source)) in PLAIN
        if not plain:
            look_at(source, split)
        found += shards_of([source], split, lines=how == "line" or not plain)
    return found
