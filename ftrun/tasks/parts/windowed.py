"""What tasks share whose texts are read in windows, of which several may belong to one row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.folds import Splitting
from ftrun.data.leaks import WAYS, SplitTexts, leak_notes, of_texts
from ftrun.data.tables import Columns
from ftrun.errors import ConfigError, DataError, counted
from ftrun.models.spec import Spec, TextInput, label_config
from ftrun.settings.checks import at_least, auto_or, one_of
from ftrun.tasks.base import Task
from ftrun.tasks.dataset import SPLITS, Example
from ftrun.tasks.parts.rows import TaskRows, tokens_of_rows
from ftrun.tasks.scorer import Row

if TYPE_CHECKING:
    from ftrun.tasks.data import TaskData


@dataclass
class WindowRows(TaskRows):
    """Rows that are no table."""

    def lengths(self, examples: Sequence[Example]) -> dict[int, int]:
        return tokens_of_rows(examples)

    def contents(self) -> SplitTexts:
        return of_texts({split: [*map(self.task.text_of, rows)] for split, rows in self.splits.items()})

    def card(self, data: TaskData) -> dict[str, Any]:
        """Rows, what they repeat, and their windows."""
        from ftrun.data.card import repetitions, spread

        sizes = {split: [each.size for each in data.dataset(split).examples] for split in SPLITS}
        return {
            "rows": {split: len(self.splits[split]) for split in SPLITS},
            "windows": {split: spread(found) for split, found in sizes.items()},
            **repetitions(of_texts(self.task.parts(self.splits)), self.task.part),
            **self.task.how.card(self.splits),
            "notes": self.notes,
            **self.task.describe(self),
            "baselines": self.baselines(data) if data.baselines else {},
        }

    def baselines(self, data: TaskData) -> dict[str, Any]:
        """The scores of what the task can answer without training, by its own metrics."""
        from ftrun.data.card import SCORED, named_scores

        found: dict[str, Any] = {}
        blank = dict.fromkeys(data.scorer.columns)
        for split in SCORED:
            first = {example.row: example for example in reversed(data.dataset(split).examples)}
            for name, pairs in self.task.untrained(self, split).items():
                rows = [
                    Row(row, label, blank | {"answer": answer}, first[row])
                    for row, (label, answer) in enumerate(pairs)
                ]
                scores = data.judged_rows(name, rows, split, data.scorer.score)
                found.setdefault(name, {}).update(named_scores(scores, split))
        return found


@dataclass
class Windowed(Task):
    """Splits of rows that are no table, windows of `max_length` tokens that share `overlap` of them."""

    name: str
    train: str | list[str] | None
    validation: str | list[str] | None
    test: str | list[str] | None
    max_length: int
    stride: int | str
    subset: Any
    leaks: str
    folds: int | None
    fold: int | None
    split_seed: int
    slices: Columns  # columns of the test rows by whose values they are also scored

    reads: ClassVar[str]  # what task.train may be
    rows_are: ClassVar[str]  # what a row is called, in the plural
    part: ClassVar[str]  # what a text of `text_of` is called
    shared: ClassVar[int]  # stride=auto is one of so many parts of a window

    def __post_init__(self) -> None:
        from ftrun.data.grouped_splits import refuse_classes

        if not self.train:
            raise ConfigError(f"task.train is not set; it takes {self.reads}, task.train=FILE")
        self.overlap = part_of_window("task.stride", self.stride, self.max_length, self.shared)
        at_least("task.stride", self.overlap, 0)
        one_of("task.leaks", self.leaks, WAYS)
        refuse_classes(self.subset)
        self.how = Splitting(self.folds, self.fold, self.split_seed)
        self.how.sources({"train": self.train, "validation": self.validation, "test": self.test})

    @abstractmethod
    def usable(self, split: str, source: str, notes: list[str]) -> list[Any]:
        """The rows of a source that can be learned or scored; DataError where there is none."""

    @abstractmethod
    def text_of(self, row: Any) -> str:
        """What rows have in common that must not be torn apart, and that another split should not have."""

    @abstractmethod
    def describe(self, rows: WindowRows) -> dict[str, Any]:
        """What the data card says beside rows and windows."""

    def untrained(self, rows: Any, split: str) -> dict[str, list[tuple[Any, Any]]]:
        """Of each baseline that needs no network: for each row the correct answer and its own."""
        return {}

    def read_splits(self, seed: int) -> tuple[dict[str, list[Any]], list[str]]:
        """The rows of each split, and notes on them."""
        from ftrun.data.grouped_splits import complete
        from ftrun.data.sources import sources_of

        notes: list[str] = []
        sources = {"train": self.train, "validation": self.validation, "test": self.test}
        rows = {
            split: [row for one in sources_of(given) for row in self.usable(split, one, notes)]
            for split, given in sources.items()
            if given is not None
        }
        drop = self.leaks == "drop"
        notes += complete(rows, self.subset, seed, self.text_of, self.rows_are, drop, self.how)
        return rows, notes + leak_notes(of_texts(self.parts(rows)), self.leaks, self.part)

    def sliced(self, rows: dict[str, list[Any]]) -> dict[str, list[str]]:
        """The slices of the test rows, by column."""
        from ftrun.data.slices import by_columns
        from ftrun.data.sources import spelled

        source = spelled(self.test or self.train or "")
        columns = {split: [row.columns for row in part] for split, part in rows.items()}
        return by_columns(self.slices, columns, source, self.folds)

    def read_file(self, file: str) -> tuple[dict[str, list[Any]], list[str]]:
        """The rows of another file as the test split, and notes on them."""
        from ftrun.data.sources import sources_of

        notes: list[str] = []
        return {"test": [row for one in sources_of(file) for row in self.usable("test", one, notes)]}, notes

    def parts(self, rows: dict[str, list[Any]]) -> dict[str, list[str]]:
        """What the splits must not share, each text as often as it counts."""
        return {split: [self.text_of(row) for row in rows[split]] for split in SPLITS}

    def kept(self, split: str, source: str, found: list[Any], full: list[Any], notes: list[str]) -> list[Any]:
        """The rows with something to read; how many have nothing is noted, DataError where all have not."""
        if len(full) < len(found):
            notes.append(
                f"{split}: {len(found) - len(full)} of {len(found)} {self.rows_are} dropped as empty"
            )
        if not full:
            every = counted(len(found), self.rows_are.removesuffix("s"))
            raise DataError(f"task.{split}={source}: there is nothing to read in {every}")
        return full

    def spec_of(self, auto_class: str, names: Sequence[str]) -> Spec:
        """The spec of a head with these outputs at each token."""
        config = label_config(list(names)) if names else {}
        return Spec(self.name, auto_class, TextInput(self.max_length), config, labels=tuple(names))


def refuse_full(max_length: int, **parts: tuple[int, int | str]) -> None:
    """ConfigError where a window has no room for a token of its own; it names what is to be shortened.

    `parts` are settings of tokens: how many they come to, and what was given. One that is auto is not to
    blame; and only where no other is too long must the window be longer, which a network may not allow.
    """
    from ftrun.data.text.windows import SPECIAL

    needed = sum(tokens for tokens, _ in parts.values()) + SPECIAL + 1
    if max_length >= needed:
        return
    every = [f"task.{name}={tokens}" for name, (tokens, _) in parts.items()]
    rest = f"up to {SPECIAL} special tokens and one of its own"
    for (name, (tokens, given)), own in zip(parts.items(), every, strict=True):
        most = max_length - needed + tokens
        if isinstance(given, int) and most >= (name != "stride"):
            others = ", ".join([*(each for each in every if each != own), rest])
            raise ConfigError(
                f"task.{name} is at most {most}, not {tokens}: the {max_length} tokens of task.max_length"
                f" also hold {others}"
            )
    raise ConfigError(f"task.max_length is at least {needed}, not {max_length}: {', '.join(every)}, {rest}")


def part_of_window(name: str, value: int | str, window: int, parts: int) -> int:
    """A number of tokens; auto is one of so many parts of a window. ConfigError for another word."""
    auto_or(name, value)
    return window // parts if isinstance(value, str) else value
