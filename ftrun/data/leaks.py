"""The same text more than once, within a split and between splits, where it is a leak."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ftrun.data.tables import Columns, columns_of
from ftrun.errors import DataError, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

WAYS = ("warn", "drop", "error")
PAIRS = (("validation", "train"), ("test", "train"), ("test", "validation"))
SHOWN = 3  # examples of each kind
ALSO = "also in"


class SplitTexts(NamedTuple):
    """The texts of each split, and a key for each that is equal where the texts count as equal."""

    keys: dict[str, list[str]]
    texts: dict[str, list[str]]
    relation: str = ALSO  # of a row to a split that has its key


def of_columns(rows: dict[str, list[dict[str, Any]]], text: Columns) -> SplitTexts:
    """Of rows of a table: one column, or several together."""
    columns = columns_of(text)
    cells = {split: [[str(row[name]) for name in columns] for row in part] for split, part in rows.items()}
    return SplitTexts(
        {split: ["\0".join(map(normalised, each)) for each in part] for split, part in cells.items()},
        {split: [" | ".join(each) for each in part] for split, part in cells.items()},
    )


def of_texts(texts: dict[str, list[str]]) -> SplitTexts:
    """Of texts alone."""
    return SplitTexts({split: [*map(normalised, part)] for split, part in texts.items()}, texts)


def normalised(text: str) -> str:
    """One spelling for texts that differ in case, blanks or the form of their characters (NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass
class Leak:
    """Rows of one split whose texts are in another, too."""

    split: str
    other: str
    rows: int  # of `split`
    of: int  # all rows of `split`
    others: int  # rows of `other`
    examples: list[str]
    unit: str  # what a row is called, in the plural
    relation: str = ALSO

    def line(self) -> str:
        return f"{self.count()} ({listed(self.examples)})"

    def count(self) -> str:
        return leaked(vars(self))


def leaked(leak: dict[str, Any]) -> str:
    """12 of 100 test rows are also in train; of a leak as the data card has it."""
    some = f"{leak['rows']:,} of {leak['of']:,} {leak['split']} {leak['unit']}"
    relation = leak.get("relation", ALSO)  # runs before groups have none
    return f"{some} {'is' if leak['rows'] == 1 else 'are'} {relation} {leak['other']}"


def leaks_of(content: SplitTexts, unit: str = "rows") -> list[Leak]:
    """What the splits share, pair by pair."""
    found = []
    for split, other in PAIRS:
        known, own = set(content.keys[other]), content.keys[split]
        shared = [place for place, key in enumerate(own) if key in known]
        if shared:
            theirs = {own[place] for place in shared}
            others = sum(key in theirs for key in content.keys[other])
            shown = list(dict.fromkeys(content.texts[split][place] for place in shared))[:SHOWN]
            found.append(Leak(split, other, len(shared), len(own), others, shown, unit, content.relation))
    return found


def among(
    known: SplitTexts, own: SplitTexts, splits: Sequence[str], which: str, unit: str = "rows"
) -> list[Leak]:
    """Which of the own rows of these splits are in the train split of `known`, rows that `which` names."""
    keys, texts = ({split: content[split] for split in splits} for content in (own.keys, own.texts))
    empty: dict[str, list[str]] = {split: [] for pair in PAIRS for split in pair}
    both = SplitTexts(
        empty | keys | {"train": known.keys["train"]}, empty | texts | {"train": known.texts["train"]}
    )
    return [
        replace(leak, other=which, relation="among") for leak in leaks_of(both, unit) if leak.other == "train"
    ]


def repeated(keys: list[str], texts: list[str]) -> dict[str, Any]:
    """How many rows of one split repeat an earlier one, and examples."""
    counts = Counter(keys)
    first = {key: text for key, text in zip(reversed(keys), reversed(texts), strict=True)}
    often = [key for key, count in counts.most_common(SHOWN) if count > 1]
    return {"rows": len(keys) - len(counts), "examples": [first[key] for key in often]}


def of_groups(groups: dict[str, list[str]], column: str) -> SplitTexts:
    """Of the group of each row."""
    return SplitTexts(groups, groups, f"of a {column} that is {ALSO}")


def without_leaks(content: SplitTexts, unit: str = "rows") -> tuple[Sequence[int], list[str]]:
    """Places of the training rows that are in no other split; DataError where none is left."""
    own = content.keys["train"]
    held = {*content.keys["validation"], *content.keys["test"]}
    kept = [place for place, key in enumerate(own) if key not in held]
    gone = [text for text, key in zip(content.texts["train"], own, strict=True) if key in held]
    if not kept:
        raise DataError(
            f"task.leaks=drop leaves no training row: all of them are {content.relation} validation or test"
        )
    if not gone:
        return kept, []
    count = f"{len(gone):,} of {len(own):,} {unit} dropped"
    shown = listed(list(dict.fromkeys(gone)), SHOWN)
    why = "their texts are in" if content.relation == ALSO else content.relation
    return kept, [f"train: {count}, {why} validation or test ({shown})"]


def leak_notes(content: SplitTexts, way: str, unit: str = "rows") -> list[str]:
    """A warning for every two splits that share texts; DataError under task.leaks=error."""
    return warnings_of(leaks_of(content, unit), way)


def warnings_of(found: list[Leak], way: str) -> list[str]:
    """A warning for every leak; DataError under task.leaks=error."""
    if found and way == "error":
        lines = "; ".join(leak.line() for leak in found)
        raise DataError(f"task.leaks=error: {lines}; task.leaks=drop takes them out of train")
    return [
        f"warning: LEAK: {leak.line()}"
        + ("; task.leaks=drop takes them out of train" if leak.other == "train" else "")
        for leak in found
    ]
