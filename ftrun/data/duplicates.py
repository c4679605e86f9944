"""The same text more than once, within a split and between splits, where it is a leak."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.labels import listed
from ftrun.data.splits import pick
from ftrun.data.tables import Columns, columns_of
from ftrun.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = dict[str, Any]
    Splits = dict[str, list[Row]]

WAYS = ("warn", "drop", "error")
PAIRS = (("validation", "train"), ("test", "train"), ("test", "validation"))
SHOWN = 3  # examples of each kind


@dataclass
class Leak:
    """Rows of one split whose text another one has too."""

    split: str
    other: str
    rows: int  # of `split`
    of: int  # all rows of `split`
    others: int  # rows of `other`
    examples: list[str]

    def line(self) -> str:
        count = f"{self.rows:,} of {self.of:,} {self.split} rows"
        return f"{count} are also in {self.other} ({listed(self.examples)})"


def normalised(text: str) -> str:
    """One spelling for texts that differ in case, blanks or the form of their characters (NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def keys_of(rows: Sequence[Row], text: Columns) -> list[str]:
    """What makes a row the same as another: its text, or the texts of several columns together."""
    columns = columns_of(text)
    return ["\0".join(normalised(str(row[column])) for column in columns) for row in rows]


def leaks_of(keys: dict[str, list[str]], texts: dict[str, list[str]]) -> list[Leak]:
    """What the splits share, pair by pair; `texts` are as a person knows them."""
    found = []
    for split, other in PAIRS:
        known = set(keys[other])
        shared = [place for place, key in enumerate(keys[split]) if key in known]
        if shared:
            theirs = {keys[split][place] for place in shared}
            others = sum(key in theirs for key in keys[other])
            shown = list(dict.fromkeys(texts[split][place] for place in shared))[:SHOWN]
            found.append(Leak(split, other, len(shared), len(keys[split]), others, shown))
    return found


def repeated(keys: list[str], texts: list[str]) -> dict[str, Any]:
    """How many rows of one split repeat an earlier one, and examples."""
    counts = Counter(keys)
    first = {key: text for key, text in zip(reversed(keys), reversed(texts), strict=True)}
    often = [key for key, count in counts.most_common(SHOWN) if count > 1]
    return {"rows": len(keys) - len(counts), "examples": [first[key] for key in often]}


def without_leaks(rows: Splits, text: Columns) -> tuple[list[Row], list[str]]:
    """The training rows whose texts are in no other split; DataError where none is left."""
    keys = {split: keys_of(part, text) for split, part in rows.items()}
    held = {*keys["validation"], *keys["test"]}
    kept = [place for place, key in enumerate(keys["train"]) if key not in held]
    gone = [row for row, key in zip(rows["train"], keys["train"], strict=True) if key in held]
    if not kept:
        raise DataError("task.leaks=drop leaves no training row: all of them are in validation or test too")
    if not gone:
        return rows["train"], []
    count = f"{len(gone):,} of {len(keys['train']):,} rows dropped"
    return pick(rows["train"], kept), [
        f"train: {count}, their texts are in validation or test ({listed(shown(gone, text), SHOWN)})"
    ]


def leak_notes(rows: Splits, text: Columns, way: str) -> list[str]:
    """A warning for every two splits that share texts; DataError under task.leaks=error."""
    keys = {split: keys_of(part, text) for split, part in rows.items()}
    found = leaks_of(keys, {split: shown(part, text) for split, part in rows.items()})
    if found and way == "error":
        said = "; ".join(leak.line() for leak in found)
        raise DataError(f"task.leaks=error: {said}; task.leaks=drop takes them out of train")
    return [
        f"warning: LEAK: {leak.line()}"
        + ("; task.leaks=drop takes them out of train" if leak.other == "train" else "")
        for leak in found
    ]


def shown(rows: Sequence[Row], text: Columns) -> list[str]:
    """The texts as they stand, several columns with a bar between."""
    columns = columns_of(text)
    return [" | ".join(str(row[column]) for column in columns) for row in rows]
