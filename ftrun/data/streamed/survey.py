"""What is to be known of the rows of a large table before a network is made: read once, then kept.

Of the training rows these are counts and a sample; the rows that are carved from them for other splits, one
in a hundred by what they say, are held whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftrun.data.documents import number_of
from ftrun.data.labels import refuse_free_text
from ftrun.data.rows import cell_text
from ftrun.data.sources import Placed
from ftrun.data.streamed.documents import HUNDREDTH
from ftrun.data.streamed.shards import Shard, in_turn
from ftrun.data.streamed.store import opened_all, wanted, written
from ftrun.data.tables import refuse_absent
from ftrun.errors import DataError

if TYPE_CHECKING:
    from ftrun.data.label_columns import LabelColumn
    from ftrun.data.sources import Row

VERSION = 1  # of what is kept
SEEN = 1000  # rows after which a column that none of them has is missing
LOOKED = 10_000  # rows after which a column of labels that are all different is refused
SHOWN = 3  # rows that are named in a note
CAUSES = ("an empty text", "no label")


@dataclass(frozen=True)
class Asked:
    """How the rows of a table are read."""

    text: list[str]
    label: str
    reading: LabelColumn
    more: list[str]  # columns that rows of other splits keep
    classes: list[str] | None  # the labels in use, None for all
    hold: list[str]  # splits that are carved from the same rows
    most: int | None  # training rows, the first ones
    sampled: int  # one training row in so many is in the sample
    identity: list[Any]  # of the settings that decide how a row is read

    def content(self, shards: Sequence[Shard]) -> str:
        """A hash of all that the rows of these shards depend on."""
        own = [self.text, self.label, self.more, self.classes, self.hold, self.most, self.sampled]
        found = [VERSION, [shard.content() for shard in shards], own, self.identity]
        return hashlib.sha256(json.dumps(found, default=str).encode()).hexdigest()[:32]

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys([*self.text, *self.reading.named(self.label), *self.more]))

    def usable(
        self, shards: Sequence[Shard], tally: Tally | None = None
    ) -> Iterator[tuple[str, Placed, int]]:
        """Rows with text and label, each with its split and the number that its texts come to.

        The label is as the column's reading has it. What is left out is counted in `tally`; DataError names a
        row that is wrong.
        """
        taken, tally = 0, tally or Tally()
        for shard in shards:
            columns: set[str] = set()
            for number, row in enumerate(shard.rows(self.columns), 1):
                tally.read += 1
                if number <= SEEN:
                    columns.update(row)
                    if number == SEEN:
                        self.refuse_columns(columns, row, shard)
                try:
                    found = self.row(row, number, shard.source, tally)
                except DataError:  # which names the row
                    found = self.row(row, number + shard.before(), shard.source, tally)
                if found is None:
                    continue
                split, drawn = self.split_of(found)
                if split == "train":
                    taken += 1
                    if self.most is not None and taken > self.most:
                        if not self.hold:
                            return
                        continue
                yield split, found, drawn
            self.refuse_columns(columns, {}, shard)

    def refuse_columns(self, columns: set[str], row: Row, shard: Shard) -> None:
        there = [*row, *sorted(columns - {*row})]
        for setting, names in {"text": self.text, "label": self.reading.named(self.label)}.items():
            for column in names if there else []:
                refuse_absent(setting, column, there, shard.source)

    def row(self, row: Row, number: int, source: str, tally: Tally) -> Placed | None:
        texts = [cell_text(row, number, column, source) for column in self.text]
        try:
            name = self.reading.read(self.reading.cell(row, self.label))
        except DataError as error:
            raise DataError(f"task.label={self.label}: row {number} of {source}: {error}") from None
        if not all(texts) or name is None:
            tally.drop(CAUSES[all(texts)], source, number)
            return None
        if self.classes is not None and name not in self.classes:
            return None
        own = {column: row[column] for column in self.columns if column in row}
        return Placed(own | {self.label: name}, source, number)

    def split_of(self, row: Row) -> tuple[str, int]:
        """The split of a row, by what it says, and a number that is another such chance."""
        rest, chance = divmod(number_of([row[column] for column in self.text]), HUNDREDTH)
        return self.hold[chance] if chance < len(self.hold) else "train", rest


@dataclass
class Moments:
    """Count, mean, standard deviation and ends of numbers; those of parts are added (Chan et al. 1983)."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, other: Moments) -> None:
        count = self.count + other.count
        apart = other.mean - self.mean
        parts = (self.count * self.deviation**2 + other.count * other.deviation**2) / count
        self.deviation = math.sqrt(parts + apart * apart * (self.count / count) * (other.count / count))
        self.mean += apart * (other.count / count)
        self.count, self.low, self.high = count, min(self.low, other.low), max(self.high, other.high)


@dataclass
class Tally:
    """Rows read and left out, and the training rows' labels."""

    read: int = 0
    # cause → how many rows, and file and number of the first of them
    dropped: dict[str, tuple[int, list[tuple[str, int]]]] = field(default_factory=dict)
    train: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # rows with each label
    bare: int = 0  # rows with no label where there may be several
    numbers: Moments = field(default_factory=Moments)

    def drop(self, cause: str, source: str, number: int, many: int = 1) -> None:
        count, first = self.dropped.get(cause, (0, []))
        self.dropped[cause] = count + many, [*first, (source, number)][:SHOWN]

    def take(self, label: Any) -> None:
        self.train += 1
        if isinstance(label, float):
            self.numbers.add(Moments(1, label, 0.0, label, label))
        elif isinstance(label, list):
            self.counts.update(label)
            self.bare += not label
        else:
            self.counts[label] += 1

    def facts(self) -> dict[str, Any]:
        return vars(self) | {"numbers": vars(self.numbers) if self.numbers.count else None}

    def add(self, facts: dict[str, Any], before: int) -> None:
        """Add those of another part of the rows, `before` which there are others of the same file."""
        self.read, self.train = self.read + facts["read"], self.train + facts["train"]
        self.bare += facts["bare"]
        self.counts.update(facts["counts"])
        for cause, (many, first) in facts["dropped"].items():
            for place, (source, number) in enumerate(first):
                self.drop(cause, source, before + number, many - len(first) + 1 if not place else 1)
        if facts["numbers"] is not None:
            self.numbers.add(Moments(**facts["numbers"]))


@dataclass
class Survey:
    """What is known of the rows: counts, a sample of the training rows, and the rows of carved splits."""

    tally: Tally
    sample: list[Placed]
    held: dict[str, list[Placed]]


def surveyed(parts: Sequence[Sequence[Shard]], asked: Asked) -> Survey:
    """Of all rows; each part is read once, by whichever process comes to it first."""
    names = [f"{asked.content(part)}.survey" for part in parts]
    for number in in_turn(len(parts)):
        with wanted(names[number]) as absent:
            if absent:
                _read(parts[number], asked, names[number])
    found = Survey(Tally(), [], {split: [] for split in asked.hold})
    before, latest = 0, ""
    for file, part in zip(opened_all(names), parts, strict=True):
        before = before if part[0].source == latest else 0
        latest = part[0].source
        found.tally.add(file.facts, before)
        for line in file.read("rows", 0, file.sizes["rows"]).splitlines():
            split, source, number, row = json.loads(line)
            rows = found.sample if split == "train" else found.held[split]
            rows.append(Placed(row, source, number + before))
        before += file.facts["read"]
    return found


def _read(part: Sequence[Shard], asked: Asked, name: str) -> None:
    tally = Tally()
    with written(name, "rows") as out:
        for split, row, drawn in asked.usable(part, tally):
            if split == "train":
                tally.take(row[asked.label])
                if tally.train == LOOKED and len(tally.counts) > LOOKED / 2:
                    refuse_free_text(list(tally.counts), tally.train, asked.label)
            if split != "train" or drawn % asked.sampled == 0:
                line = json.dumps([split, row.file, row.number, row], default=str)
                out.add("rows", line.encode() + b"\n")
        out.facts = tally.facts()
