"""Which columns of a table are its labels: one of them, or one of 0 and 1 for each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftrun.data.tables import columns_of, one_name
from ftrun.tasks.guessing.columns import CLASSES, LABELS, NUMBERS, Column

TARGETS = (
    "label", "labels", "class", "target", "category", "sentiment", "stars", "rating", "score", "similarity",
    "verdict", "topic", "intent", "genre", "genres", "tags", "y",
)  # fmt: skip
SEVERAL = 3  # columns of 0 and 1 that are those of several labels, and no facts of a row
NUMBERED = ("id", "idx", "index", "row", "number", "unnamed: 0")


@dataclass(frozen=True)
class Doubt:
    """A setting whose value was taken of several that are possible."""

    setting: str
    taken: str
    possible: tuple[str, ...]

    def line(self) -> str:
        others = ", ".join(each for each in self.possible if each != self.taken)
        return f"{self.setting}={self.taken} is a guess; also possible: {others}"


def label_columns(
    columns: list[Column], text: Any, given: dict[str, Any], doubts: list[Doubt]
) -> list[str] | None:
    """One column for each label, where so many hold 0 and 1 and nothing else could be labels; else None."""
    if "label" in given:
        return given["label"] if isinstance(given["label"], list) else None
    order = flags_of(columns, targets_of(columns, columns_of(text)))
    if len(order) < (2 if given.get("kind") == "multilabel" else SEVERAL):
        return None
    if given.get("kind") not in (None, "multilabel"):
        return None
    if "kind" not in given:
        doubts.append(Doubt("task.label", one_name(order), (one_name(order), *order)))
    return order


def flags_of(columns: list[Column], found: list[Column]) -> list[str]:
    """Those of 0 and 1 in their order, where none is named as a label column is and no other could be one."""
    likely = [each for each in found if each.holds != NUMBERS]
    named = {each.name.lower() for each in found} & {*TARGETS}
    if named or len(likely) < 2 or not all(each.binary for each in likely):
        return []
    return [each.name for each in columns if each in likely]


def label_of(columns: list[Column], text: Any, given: dict[str, Any], doubts: list[Doubt]) -> Column | None:
    """The column of labels: one whose name says so, else the last that could be."""
    if "label" in given:
        return next(each for each in columns if each.name == given["label"])
    found = targets_of(columns, [text] if isinstance(text, str) else text)
    named = [each for name in reversed(TARGETS) for each in found if each.name.lower() == name]
    found = named or found
    if len(found) > 1:
        order = [] if "kind" in given else flags_of(columns, found)
        possible = [*(each.name for each in found), *[one_name(order)] * bool(order)]
        doubts.append(Doubt("task.label", found[-1].name, tuple(possible)))
    return found[-1] if found else None


def targets_of(columns: list[Column], texts: Sequence[str]) -> list[Column]:
    """Those that could be labels, the likeliest last: classes rather than numbers, which may count rows."""
    found = [
        each
        for each in columns
        if each.holds in (CLASSES, NUMBERS, LABELS)
        and each.name not in texts
        and each.name.lower() not in NUMBERED
    ]
    return sorted(found, key=lambda each: (each.holds != NUMBERS, not each.unclean, not each.whole))
