"""A table larger than memory: its training rows stay where they are, those of the other splits are held."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.data.baselines import FITTED
from ftrun.data.content import ending, packed
from ftrun.data.hub import pinned
from ftrun.data.rows import in_use, refuse_hidden_labels, usable
from ftrun.data.sources import SPLITS, sources_of, spelled
from ftrun.data.splits import Splits
from ftrun.data.streamed.shards import Shard, shards_of
from ftrun.data.streamed.survey import Asked, Survey, Tally, surveyed
from ftrun.data.streaming import files_behind, look_at
from ftrun.data.tables import Columns, columns_of
from ftrun.errors import DataError, counted

if TYPE_CHECKING:
    from ftrun.data.label_columns import LabelColumn

PACKED, COLUMNS, UNKNOWN = 4, 2, 64  # characters for each byte of gzip and parquet; one row in so many


@dataclass
class StreamedSplits(Splits):
    """Splits of which `train` is a sample; the training rows are those of `parts`, read as it is `asked`."""

    asked: Any = None  # Asked
    parts: list[list[Shard]] = field(default_factory=list)  # each is read from its beginning
    tally: Tally = field(default_factory=Tally)


def load_streamed(
    *,
    given: dict[str, Any],
    text: Columns,
    label: str,
    subset: int | None,
    reading: LabelColumn,
    classes: list[str] | None,
    more: list[str],
    identity: list[Any],
) -> StreamedSplits:
    """Read the training rows once, and the other splits; what is missing is carved, a hundredth each.

    Raises DataError for a row that is wrong, with its file and number.
    """
    hold = [split for split in ("test", "validation") if given[split] is None]
    sources = [pinned(name) if name.startswith("hub:") else name for name in sources_of(given["train"])]
    for source in sources:
        look_at(source, "train")
    whole = [Shard(source, "train") for source in sources]
    parts = [whole] if subset is not None else [[shard] for shard in shards_of(sources, "train")]
    texts = columns_of(text)
    asked = Asked(texts, label, reading, more, classes, hold, subset, one_in(sources), identity)
    found = surveyed(parts, asked)
    tally = found.tally
    if not tally.train:
        name = spelled(given["train"])
        raise DataError(
            f"task.train={name}: none of {counted(tally.read, 'row')} has both a text and a label"
        )
    notes = notes_of(found, len(sources))
    rows = held_rows(found, given, text, asked, notes)
    if subset is not None:
        notes.append(f"train: the first {counted(tally.train, 'row')} (task.subset={subset})")
    content: list[Any] = [[asked.content(part) for part in parts]]
    content += [[[row[name] for name in (*texts, label)] for row in rows[split]] for split in SPLITS[1:]]
    fingerprint = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
    three = rows["train"], rows["validation"], rows["test"]
    return StreamedSplits(*three, notes, fingerprint, tally.counts, asked, parts, tally)


def held_rows(
    found: Survey, given: dict[str, Any], text: Columns, asked: Asked, notes: list[str]
) -> dict[str, list[Any]]:
    """The sample of train and the rows of the other splits, read or carved."""
    rows: dict[str, list[Any]] = {"train": list(found.sample)} | found.held
    label, reading = asked.label, asked.reading
    for split in SPLITS[1:]:
        if (source := given[split]) is not None:
            read = usable(split, source, text, label, reading, notes)
            rows[split] = in_use(read, source, label, asked.classes)
    for split in asked.hold:
        if not rows[split]:
            raise DataError(
                f"task.train has too few rows ({found.tally.read:,}) to carve {split} from, one in a hundred;"
                f" set task.{split}, or task.stream=false for a tenth"
            )
        notes.append(f"{split}: {counted(len(rows[split]), 'row')} split off train (1%, by their texts)")
    refuse_hidden_labels(rows, given, label, reading)
    return rows


def one_in(sources: Sequence[str]) -> int:
    """How many training rows there are for each of a sample of about FITTED characters, a power of two."""
    characters = 0
    for source in sources:
        _, files = files_behind(source, "train")
        if not files and not source.startswith("embedded:"):
            return UNKNOWN
        for path in files:
            more = PACKED if packed(path) else COLUMNS if ending(path) == ".parquet" else 1
            characters += path.stat().st_size * more
    return 1 << max(0, (characters - 1) // FITTED).bit_length()


def notes_of(found: Survey, files: int) -> list[str]:
    """How many rows were left out, and why."""
    tally = found.tally
    notes = []
    for why, (many, first) in tally.dropped.items():
        places = [str(number) if files == 1 else f"{number} of {Path(file).name}" for file, number in first]
        named = ", ".join(places) + (", …" if many > len(places) else "")
        notes.append(f"train: {many} of {tally.read} rows dropped, {why} (row {named})")
    if files > 1:
        notes.append(f"train: {counted(tally.train, 'row')} of {files} files")
    return notes
