"""How a task's rows are split where no file says it: its settings, and the groups and times of its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.labels import name_of
from ftrun.data.leaks import PAIRS, Leak, SplitTexts, leaks_of, of_groups, without_leaks
from ftrun.data.leaks import SHOWN as EXAMPLES
from ftrun.data.sources import SPLITS, Given, Row, spelled
from ftrun.data.splits import SPLIT_SEED
from ftrun.data.tables import refuse_absent
from ftrun.data.times import Moment, moment, shown
from ftrun.errors import ConfigError, DataError
from ftrun.settings.checks import at_least

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_SEED = 2**32 - 1  # of numpy, and so of scikit-learn
MOST_FOLDS = 1000  # a run each
SHOWN = 20  # groups of each split in the data card


@dataclass(frozen=True)
class Splitting:
    """A task's settings of how its rows are split. Raises ConfigError for what cannot be."""

    folds: int | None = None
    fold: int | None = None  # which of the folds is the test split
    seed: int = SPLIT_SEED  # whatever the seed of a run: seeds are compared on the same test rows
    group: str | None = None  # a column whose equal values stay in one split
    time: str | None = None  # a column by which train is before validation, and this before test

    def __post_init__(self) -> None:
        at_least("task.folds", self.folds, 2)
        if self.folds is not None and self.folds > MOST_FOLDS:
            raise ConfigError(f"task.folds is at most {MOST_FOLDS:,}, a run for each, not {self.folds}")
        at_least("task.split_seed", self.seed, 0)
        if self.seed > LARGEST_SEED:
            raise ConfigError(f"task.split_seed is at most {LARGEST_SEED}, not {self.seed}")
        if self.folds is None and self.fold is not None:
            raise ConfigError(
                f"task.fold={self.fold} is one of the folds, whose number is not set: task.folds=5"
            )
        if self.folds is not None and self.fold is None:
            every = ",".join(map(str, range(self.folds))) if self.folds <= SHOWN else f"'range({self.folds})'"
            raise ConfigError(
                f"task.folds={self.folds} is {self.folds} runs: ftrun -m … task.folds={self.folds}"
                f" task.fold={every}; for one of them name it, task.fold=0"
            )
        if self.folds is not None and not 0 <= (self.fold or 0) < self.folds:
            raise ConfigError(
                f"task.fold is from 0 to {self.folds - 1} with task.folds={self.folds}, not {self.fold}"
            )
        if self.time is not None and self.group is not None:
            raise ConfigError(
                f"task.time={self.time} and task.group={self.group} exclude each other: a group may go on in"
                " time; set only one of them"
            )
        if self.time is not None and self.seed != SPLIT_SEED:
            raise ConfigError(
                f"task.split_seed={self.seed} changes nothing with task.time={self.time}, which decides the"
                " order; set only one of them"
            )

    def sources(self, given: dict[str, Given | None]) -> tuple[dict[str, Given | None], list[str]]:
        """What each split is read from, and notes; embedded data is put together to be split another way.

        Raises ConfigError where a given split leaves nothing to decide.
        """
        held = [split for split in SPLITS[1:] if given.get(split) is not None]
        asked = self.folds or self.group or self.time or self.seed != SPLIT_SEED
        name = _embedded([one for one in given.values() if one is not None])
        if asked and held and name:
            whole: Given = [f"embedded:{name}:{split}" for split in SPLITS]
            note = f"embedded:{name}: its three splits are put together and split again"
            return {"train": whole, "validation": None, "test": None}, [note]
        settings = " and ".join(f"task.{split}={spelled(given[split] or '')}" for split in held)
        if self.folds and held:
            nulls = " ".join(f"task.{split}=null" for split in held)
            raise ConfigError(
                f"task.folds={self.folds} splits the rows of task.train, but {settings} is given; possible:"
                f" {nulls}, with its rows as one more file of task.train=[…] or left out"
            )
        if self.seed != SPLIT_SEED and len(held) == 2:
            raise ConfigError(
                f"task.split_seed={self.seed} changes nothing, since {settings} are given; possible:"
                " task.test=null, which splits it off train"
            )
        return given, []

    def check(self, rows: Sequence[Row], source: str) -> None:
        """DataError that names the first row of a source whose group or time is missing or is none."""
        read = {"group": (self.group, name_of), "time": (self.time, moment)}
        for setting, (column, cell) in read.items():
            if column is None:
                continue
            refuse_absent(setting, column, list(dict.fromkeys(key for row in rows for key in row)), source)
            first: type | None = None
            for number, row in enumerate(rows, 1):
                where = f"task.{setting}={column}: row {number} of {source}"
                try:
                    found: Any = cell(row.get(column))
                except DataError as error:
                    raise DataError(f"{where}: {error}".replace("a label is", f"a {setting} is")) from None
                if found is None:
                    raise DataError(f"{where} has none; every row needs one")
                if first not in (None, type(found)):
                    raise DataError(f"{where} is {row[column]!r}: numbers and dates are mixed")
                first = type(found)

    def keys(self, rows: list[Row]) -> tuple[list[str] | None, list[Moment] | None]:
        """The group and the time of each row, None where they do not count."""
        groups = None if self.group is None else self.groups(rows)
        return groups, None if self.time is None else self.moments(rows)

    def groups(self, rows: list[Row]) -> list[str]:
        """The group of each row."""
        return [str(name_of(row[self.group or ""])) for row in rows]

    def moments(self, rows: list[Row]) -> list[Moment]:
        """The time of each row; DataError where one source has numbers and another dates."""
        found = [moment(row[self.time or ""]) for row in rows]
        if len({type(one) for one in found}) > 1:
            raise DataError(f"task.time={self.time}: one file has numbers and another dates")
        return [one for one in found if one is not None]

    def leaks(self, rows: dict[str, list[Row]], unit: str = "rows") -> list[Leak]:
        """Groups on two sides, and rows that are no later than those of an earlier split."""
        if self.group is not None:
            return leaks_of(self.grouped(rows), unit)
        return [] if self.time is None else self.late(rows)

    def grouped(self, rows: dict[str, list[Row]]) -> SplitTexts:
        return of_groups({split: self.groups(part) for split, part in rows.items()}, self.group or "")

    def late(self, rows: dict[str, list[Row]]) -> list[Leak]:
        self.moments([row for part in rows.values() for row in part])  # all of one kind
        moments, found = {split: self.moments(part) for split, part in rows.items()}, []
        for split, other in PAIRS:
            newest, oldest = max(moments[other]), min(moments[split])
            if early := sorted(one for one in moments[split] if one <= newest):
                others = sum(one >= oldest for one in moments[other])
                examples = [shown(one) for one in dict.fromkeys(early)][:EXAMPLES]
                relation = f"no later by {self.time} than the newest of"
                counts = len(early), len(moments[split]), others
                found.append(Leak(split, other, *counts, examples, "rows", relation))
        return found

    def without_leaks(self, rows: dict[str, list[Row]]) -> tuple[Sequence[int], list[str]]:
        """Places of the training rows without those leaks, and notes; DataError where none is left."""
        train = rows["train"]
        if self.group is not None:
            return without_leaks(self.grouped(rows))
        if self.time is None:
            return range(len(train)), []
        held = min(self.moments(rows["validation"] + rows["test"]))
        before = [place for place, one in enumerate(self.moments(train)) if one < held]
        if not before:
            raise DataError(
                f"task.leaks=drop leaves no training row: none is before {shown(held)} by {self.time}"
            )
        gone = len(train) - len(before)
        line = f"train: {gone:,} of {len(train):,} rows dropped, not before {shown(held)} by {self.time}"
        return before, [line] if gone else []

    def card(self, rows: dict[str, list[Row]]) -> dict[str, Any]:
        """What the data card says of the folds, and of the groups or times of each split."""
        found: dict[str, Any] = {}
        if self.folds is not None:
            found["folds"] = {"folds": self.folds, "fold": self.fold, "split_seed": self.seed}
        if self.group is not None:
            counts = {split: Counter(self.groups(part)) for split, part in rows.items()}
            found["groups"] = {
                "column": self.group,
                "count": {split: len(names) for split, names in counts.items()},
                "largest": {split: dict(names.most_common(SHOWN)) for split, names in counts.items()},
            }
        if self.time is not None:
            moments = {split: self.moments(part) for split, part in rows.items()}
            found["times"] = {"column": self.time} | {
                split: [shown(min(part)), shown(max(part))] for split, part in moments.items()
            }
        return found


PLAIN = Splitting()


def _embedded(given: list[Given]) -> str:
    """The embedded data set that all of these are splits of, "" where they are not."""
    sources = [source for one in given for source in ([one] if isinstance(one, str) else one)]
    names = {one.split(":")[1] if one.startswith("embedded:") else "" for one in sources}
    return names.pop() if len(names) == 1 else ""
