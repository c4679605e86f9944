"""The label set: each value a label column may hold becomes a name, and what looks wrong is noted."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.sources import Placed
from ftrun.errors import ConfigError, DataError, counted, kind_of, listed, near
from ftrun.runs.typed import literal, word
from ftrun.settings.checks import natural_order

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ftrun.data.splits import Splits

WHOLE = re.compile(
    r"[+-]?[0-9]{1,300}\.0+"
)  # "1.0": what a table writes for 1 once one row of the column was empty
MARKS = frozenset(  # what pandas reads as missing where a cell says it in so many letters
    "#N/A,#N/A N/A,#NA,-1.#IND,-1.#QNAN,1.#IND,1.#QNAN,-NaN,-nan,<NA>,N/A,NA,NULL,None,n/a,null".split(",")
)
MANY = 20  # below this many labels, more labels than half the rows is a small table and not free text


@dataclass
class Labels:
    """The names in the order of their ids, and what was noticed while collecting them."""

    names: list[str]
    notes: list[str]

    def __post_init__(self) -> None:
        self._ids = {name: index for index, name in enumerate(self.names)}

    def index(self, value: Any) -> int:
        """The id of a label however it is spelled: 1, 1.0 and "1" are the same; DataError when it is none."""
        name = name_of(value)
        if name is None:
            raise DataError("a row has no label")
        if name not in self._ids:
            raise DataError(
                f"label {name!r} is not one of the {len(self.names)} labels "
                f"({listed(self.names)}){near(name, self.names)}"
            )
        return self._ids[name]


def name_of(value: Any) -> str | None:
    """The name of a label, None when it is missing (None, NaN, blank); DataError when it can be none."""
    if isinstance(value, str):
        if not value.strip() or value.strip().lower() == "nan":
            return None
        return str(int(value.partition(".")[0])) if WHOLE.fullmatch(value) else value
    if value is None or isinstance(value, (bool, int)):
        return None if value is None else str(value)
    if hasattr(value, "item") and not isinstance(value, float):  # a numpy scalar
        return name_of(value.item())
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    several = "; several labels per row: task=multilabel" if isinstance(value, list) else ""
    raise DataError(f"a label is text, a whole number or true/false, not {kind_of(value)}{several}")


def names_of(value: Any) -> list[str]:
    """The names of a row's label, or of its labels where it has a list of them."""
    names = [name_of(part) for part in value] if isinstance(value, list) else [name_of(value)]
    return [name for name in names if name is not None]


def classes_of(classes: Any) -> list[str] | None:
    """The names of the labels in use; ConfigError unless they are two or more different ones."""
    if classes is None:
        return None
    names = names_in("classes", classes) if isinstance(classes, list) else []
    found = [name for name in names if name is not None]
    if len(found) != len(names) or len(set(found)) != len(found) or len(found) < 2:
        raise ConfigError(f"task.classes is a list of two or more different labels, not {classes}")
    return found


def names_in(setting: str, values: list[Any]) -> list[str | None]:
    """The names that a setting lists, None for an empty one; ConfigError where one is no label at all."""
    try:
        return [name_of(value) for value in values]
    except DataError as error:
        raise ConfigError(f"task.{setting}={values}: {error}") from None


def refuse_absent_classes(classes: list[str], there: set[str], source: str, what: str) -> None:
    """DataError where a class in use has nothing in a source: no `what`, an image or a row."""
    names = sorted(there, key=natural_order)
    if lacking := [name for name in classes if name not in there]:
        raise DataError(
            f"task.classes: {source} has no {what} of {listed(lacking)}; it has {listed(names)}"
            f"{near(lacking[0], names)}"
        )


def label_set(splits: Splits, column: str, declared: list[Any] | None, chosen: bool = False) -> Labels:
    """The declared labels in order, or the union of the splits in natural order; DataError if unusable.

    `chosen` says that the rows are those of labels that a person named.
    """
    counts = {
        split: Counter(name for row in rows for name in names_of(row.get(column)))
        for split, rows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test))
    }
    if splits.counted is not None:
        counts["train"] = splits.counted
    if declared is None:
        names = sorted(set().union(*counts.values()), key=natural_order)
        refuse_free_text(names, sum(map(sum, (c.values() for c in counts.values()))), column)
    else:
        names = declared_names("labels", declared)
        refuse_foreign(splits, column, names, "in task.labels")
        if foreign := [name for name in counts["train"] if name not in names]:
            many = counted(counts["train"][foreign[0]], "train row")
            raise DataError(
                f"label {foreign[0]!r} of {many} is not in task.labels"
                f" ({listed(names)}){near(foreign[0], names)}"
            )
    if len(counts["train"]) < 2:
        only = f"only the label {next(iter(counts['train']))!r}" if counts["train"] else "no label"
        raise DataError(
            f"task.label={column}: the training rows have {only}; classification needs two or more"
        )
    notes = [*_absences(names, counts), *_twins(names, counts)]
    several = any(isinstance(row.get(column), list) for row in splits.train[:1])  # of every row or of none
    return Labels(names, notes if declared or chosen else [*notes, *_marks(names, counts, several)])


def declared_names(setting: str, declared: Any) -> list[str]:
    """The names that a setting of the task lists; ConfigError unless they are two or more different ones."""
    values = declared if isinstance(declared, list) else []
    names = [name for name in names_in(setting, values) if name is not None]
    if len(names) < 2 or len(names) != len(values) or len(set(names)) != len(names):
        raise ConfigError(f"task.{setting}={declared}: two or more different labels, none of them empty")
    return names


def refuse_free_text(names: list[str], rows: int, column: str) -> None:
    plain = [name for name in names if name not in MARKS] or names
    alone = len(plain) == 1 < len(names)
    if any(_fraction(name) for name in plain) and all(_is_number(name) for name in plain) and not alone:
        raise DataError(
            f"task.label={column} holds numbers with decimals ({listed(plain, 4)}): that needs regression, "
            "task=regress; if they are classes, declare them in task.labels"
        )
    if len(names) > MANY and len(names) > rows / 2:
        raise DataError(
            f"task.label={column}: {len(names)} different labels in {counted(rows, 'row')}"
            f" ({listed(names, 2)}): is this the label column?"
        )


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", name) is not None


def _fraction(name: str) -> bool:
    return _is_number(name) and not float(name).is_integer()


def refuse_foreign(splits: Splits, column: str, names: list[str], expected: str) -> None:
    """DataError showing the first row whose label is not among the names."""
    for split, rows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        for row in rows:
            for name in names_of(row[column]):
                if name in names:
                    continue
                texts = (value for key, value in row.items() if key != column and isinstance(value, str))
                where = f" (row {row.number} of {row.file})" if isinstance(row, Placed) else ""
                raise DataError(
                    f"label {name!r} of the {split} row {listed([max(texts, key=len, default='')])}{where} "
                    f"is not {expected} ({listed(names)}){near(name, names)}"
                )


def _absences(names: list[str], counts: dict[str, Counter[str]]) -> list[str]:
    notes = []
    for name in names:
        homes = [split for split, counted in counts.items() if counted[name]]
        if not homes:
            notes.append(f"label {name!r} is declared, but no row has it")
        elif "train" not in homes:
            rows = sum(counted[name] for counted in counts.values())
            notes.append(
                f"warning: label {name!r} occurs in {' and '.join(homes)} only ({counted(rows, 'row')}): "
                "training never sees it"
            )
    for split in ("validation", "test"):
        absent = [name for name in names if counts["train"][name] and not counts[split][name]]
        if absent and counts[split]:
            notes.append(f"no {split} row has the label {listed(absent)}")
    return notes


def _marks(names: list[str], counts: dict[str, Counter[str]], several: bool) -> list[str]:
    """Warnings of names that in other files say that there is no label; here they are labels."""
    others = [name for name in names if name.strip() not in MARKS]
    few = 2 <= len(others) <= MANY
    shown = word(f"task.classes=[{','.join(map(literal, others))}]") if few else "task.classes=[…]"
    way = f"{shown} leaves such rows out, as an empty cell does"
    return [
        f"warning: {counted(rows, 'row has', 'rows have')} the label {name!r}, which is a class here but may"
        f" mean that the label is missing; {'an empty cell is a row without a label' if several else way}"
        for name in names
        if name not in others and (rows := sum(each[name] for each in counts.values()))
    ]


def doubted_texts(split: str, texts: Iterable[str]) -> list[str]:
    """Warnings of texts that in other files say that there is none."""
    marks = Counter(mark for text in texts if (mark := text.strip()) in MARKS)
    return [
        f"warning: {split}: {counted(rows, 'row has', 'rows have')} the text {mark!r}, which may mean that it"
        " is missing; an empty cell leaves a row out"
        for mark, rows in marks.items()
    ]


def _twins(names: list[str], counts: dict[str, Counter[str]]) -> list[str]:
    """Warnings of names that differ in case or blanks alone, and of blanks and quotes around others."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"[\s_-]+", " ", name.strip().casefold()), []).append(name)
    single = [group[0] for group in alike.values() if len(group) == 1]
    odd = [name for name in single if name != name.strip() or (len(name) > 1 and name[0] == name[-1] == '"')]
    return [
        "warning: labels that differ only in case or blanks are kept apart: "
        + ", ".join(f"{name!r} ({counted(sum(c[name] for c in counts.values()), 'row')})" for name in group)
        + "; to join them, spell them alike in the file"
        for group in alike.values()
        if len(group) > 1
    ] + [f"warning: blanks or quotes are part of the label {listed(odd, 4)}"] * bool(odd)
