"""Rows of a table that is larger than memory as examples on the disk, written shard by shard."""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ftrun.data.streamed.shards import in_turn
from ftrun.data.streamed.store import Numbers, Stored, opened_all, wanted, written
from ftrun.data.tables import columns_of
from ftrun.data.text.encoding import LengthReport, tokenised
from ftrun.data.text.token_cache import PAYS, tokenizer_content
from ftrun.errors import ConfigError, DataError, counted
from ftrun.tasks.dataset import SPLITS, Example, MadeExamples
from ftrun.tasks.parts.texts import Pair

if TYPE_CHECKING:
    from ftrun.data.label_columns import LabelColumn
    from ftrun.data.sources import Placed
    from ftrun.data.streamed.survey import Asked
    from ftrun.data.streamed.tables import StreamedSplits

VERSION = 1  # of what is written
ROWS = 1000  # that are tokenised together, at most


def refuse(settings: dict[str, tuple[Any, Any]]) -> None:
    """ConfigError for a setting that needs all rows at once: name → what it is, and what it can be."""
    for name, (value, possible) in settings.items():
        if value != possible:
            shown = {None: "null", False: "false"}.get(possible, possible)
            raise ConfigError(
                f"task.{name}={value} looks at all training rows at once, which task.stream=true does not"
                f" hold; possible: task.{name}={shown}"
            )


def load_streamed_table(
    task: Any, reading: LabelColumn, classes: list[str] | None, decides: list[Any]
) -> StreamedSplits:
    """The splits of a task on tables, of train a sample; the kind's own settings decide how a row is read."""
    from ftrun.data.splits import parse_subset
    from ftrun.data.streamed.tables import load_streamed

    found = load_streamed(
        given={split: vars(task)[split] for split in SPLITS},
        text=task.text,
        label=task.column,
        subset=None if task.subset is None else parse_subset(task.subset)[0],
        reading=reading,
        classes=classes,
        more=columns_of(task.slices),
        identity=[type(task).__qualname__, *decides],
    )
    found.notes.append("task.stream=true: texts that occur twice or in two splits are not looked for")
    return found


class StoredExamples(MadeExamples):
    """The examples of the training rows, each read when it is looked at."""

    def __init__(self, files: list[Stored], target: Callable[[Any], Any]) -> None:
        self.files, self.target = files, target
        self.first = [*accumulate((file.facts["rows"] for file in files), initial=0)]
        self._sizes = Numbers(files, "sizes", "int32")[:]

    @property
    def sizes(self) -> Sequence[int]:
        found: Sequence[int] = self._sizes
        return found

    def __len__(self) -> int:
        return self.first[-1]

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        number = bisect_right(self.first, place) - 1
        file, row = self.files[number], place - self.first[number]
        ends = file.read("ends", max(0, 8 * (row - 1)), 16 if row else 8)
        begin = int.from_bytes(ends[:8], "little") if row else 0
        ids, types, label = json.loads(
            file.read("examples", begin, int.from_bytes(ends[-8:], "little") - begin)
        )
        target = self.target(label)
        return Example(ids, target, place) if types is None else Pair(ids, target, place, types)

    def label_counts(self) -> Counter[str]:
        return sum((Counter(file.facts["labels"]) for file in self.files), Counter())


def stored_examples(
    task: Any, tokenizer: Any, stream: StreamedSplits, target: Callable[[Any], Any]
) -> tuple[StoredExamples, LengthReport]:
    """The training rows for this tokenizer, and what the limit did to them; DataError for a wrong row.

    A shard that is not there yet is made by whichever process comes to it first.
    """
    limits = [task.max_length, task.long]
    own = [VERSION, limits, tokenizer_content(tokenizer), "token_type_ids" in tokenizer.model_input_names]
    names, made = [], False
    for part in stream.parts:
        key = json.dumps([stream.asked.content(part), own], default=str)
        names.append(hashlib.sha256(key.encode()).hexdigest()[:32] + ".examples")
    for number in in_turn(len(names)):
        with wanted(names[number]) as absent:
            if absent:
                made = True
                write(task, tokenizer, stream.asked, stream.parts[number], names[number])
    files = opened_all(names)
    report = report_of([file.facts for file in files], not made, len(stream.asked.text) == 2)
    found = StoredExamples(files, target)
    if not len(found):
        raise DataError(f"task.max_length={task.max_length}, task.long=drop: no row of train is short enough")
    return found, report


def write(task: Any, tokenizer: Any, asked: Asked, part: Any, name: str) -> None:
    """The examples of some shards, with where they end, their sizes, and counts."""
    texts = asked.text
    names = ["input_ids"]
    if len(texts) == 2 and "token_type_ids" in tokenizer.model_input_names:
        names.append("token_type_ids")
    lengths: Counter[int] = Counter()
    labels: Counter[str] = Counter()
    facts = {"rows": 0, "dropped": 0, "cut": 0, "lost": 0, "begun": 0}
    end = 0
    with written(name, "examples") as out:
        for chunk in chunks(row for split, row, _ in asked.usable([*part]) if split == "train"):
            columns = [[row[column] for row in chunk] for column in texts]
            found, sizes, begun = tokenised(tokenizer, columns, names, task.max_length)
            lengths.update(sizes)
            facts["begun"] += len(begun)
            for row, size, ids, *types in zip(chunk, sizes, *(found[each] for each in names), strict=True):
                over = size > task.max_length
                if over and task.long == "error":
                    raise DataError(too_long(task, row, size, texts))
                facts["lost"] += size if over and task.long == "drop" else size - len(ids)
                if over and task.long == "drop":
                    facts["dropped"] += 1
                    continue
                facts["cut"] += over
                facts["rows"] += 1
                label = row[asked.label]
                if not isinstance(label, float):
                    labels.update([label] if isinstance(label, str) else label)
                record = json.dumps([ids, types[0] if types else None, label], separators=(",", ":")).encode()
                end += len(record)
                out.add("examples", record)
                out.add("ends", end.to_bytes(8, "little"))
                out.add("sizes", len(ids).to_bytes(4, "little"))
        out.facts = facts | {"lengths": lengths, "labels": labels}


def chunks(rows: Iterator[Placed]) -> Iterator[list[Placed]]:
    """Rows that are tokenised together: too few for the cache of what is tokenised again."""
    held: list[Placed] = []
    size = 0
    for row in rows:
        length = sum(len(value) for value in row.values() if isinstance(value, str))
        if held and (len(held) >= ROWS or size + length >= PAYS):
            yield held
            held, size = [], 0
        held.append(row)
        size += length
    if held:
        yield held


def too_long(task: Any, row: Placed, size: int, texts: list[str]) -> str:
    said = str(row[texts[0]])
    excerpt = said if len(said) <= 40 else said[:39] + "…"
    return (
        f"task.long=error: row {row.number} of {row.file} ({excerpt!r}) has {counted(size, 'token')}, more"
        f" than task.max_length={task.max_length}; raise task.max_length or set task.long=truncate or drop"
    )


def report_of(facts: list[dict[str, Any]], cached: bool, pairs: bool) -> LengthReport:
    """That of all shards."""
    lengths: Counter[int] = Counter()
    for each in facts:
        lengths.update({int(size): count for size, count in each["lengths"].items()})
    dropped, cut, lost, begun = (
        sum(each[name] for each in facts) for name in ("dropped", "cut", "lost", "begun")
    )
    rows = lengths.total()
    return LengthReport(
        split="train",
        rows=rows,
        dropped=dropped,
        truncated_share=cut / max(1, rows),
        tokens_lost=lost,
        p50=quantile(lengths, 0.5),
        p95=quantile(lengths, 0.95),
        longest=max(lengths, default=0),
        pairs=pairs,
        cached=cached,
        begun=begun,
        streamed=True,
    )


def quantile(lengths: Counter[int], share: float) -> int:
    """The length that at least this share of the rows does not exceed; as `card.quantile` of all of them."""

    place, seen = max(1, math.ceil(share * lengths.total())), 0
    for length in sorted(lengths):
        seen += lengths[length]
        if seen >= place:
            return length
    return 0
