"""What tasks on tables of text share: rows with one text or a pair of them, and a label column."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftrun.data import leaks
from ftrun.data.folds import Splitting
from ftrun.data.label_columns import ONE_NAME, LabelColumn
from ftrun.data.slices import by_columns
from ftrun.data.sources import spelled
from ftrun.data.splits import Splits, parse_subset
from ftrun.data.tables import Columns, columns_of
from ftrun.errors import ConfigError
from ftrun.models.spec import Spec, TextInput
from ftrun.settings.checks import one_of
from ftrun.tasks.base import Task
from ftrun.tasks.dataset import SPLITS, Epochs, Example
from ftrun.tasks.parts.rows import TaskRows, tokens_of_rows
from ftrun.tasks.parts.texts import TableDataset, examples_of, separates

if TYPE_CHECKING:
    from ftrun.data.labels import Labels
    from ftrun.data.sources import Placed
    from ftrun.data.text.encoding import LengthReport
    from ftrun.tasks.data import TaskData

LEAST = {1: 3, 2: 6}  # tokens for one text and for two: the special ones, and a token of each text


@dataclass
class TableRows(TaskRows):
    """Rows of a table."""

    labels: Labels | None = None  # the label names that were found, where labels are names
    kept_notes: list[str] = field(default_factory=list)  # those that the data card keeps

    def lengths(self, examples: Sequence[Example]) -> dict[int, int]:
        return tokens_of_rows(examples)

    def card(self, data: TaskData) -> dict[str, Any]:
        from ftrun.data.card import repetitions

        rows = {split: used(data, split) for split in SPLITS}
        datasets: dict[str, Any] = {split: data.dataset(split) for split in SPLITS}
        found = {
            "rows": {split: len(part) for split, part in rows.items()},
            "lengths": {split: dataset.lengths for split, dataset in datasets.items()},
            **repetitions(leaks.of_columns(rows, self.task.text), more=self.task.how.leaks(rows)),
            **self.task.how.card(rows),
            "notes": list(self.kept_notes),
        }
        return found | self.task.describe(data)


@dataclass
class TextTable(Task):
    """Rows of a table with one text or a pair of them, and a label whose meaning is the part of the task."""

    name: str
    train: str | list[str] | None
    validation: str | list[str] | None
    test: str | list[str] | None
    text: Columns
    label: str
    max_length: int
    long: str
    subset: Any  # null, a number of training rows or, of classes, "k per class"
    leaks: str
    folds: int | None
    fold: int | None
    split_seed: int
    group: str | None
    time: str | None
    slices: Columns  # columns of the test rows by whose values they are also scored

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("task.train is not set; it takes a file (csv, tsv, jsonl, json, txt, parquet)")
        texts = len(columns_of(self.text))
        if not isinstance(self.text, str) and (texts != 2 or self.text[0] == self.text[1]):
            raise ConfigError(f"task.text is a column, or two different ones [first,second], not {self.text}")
        if self.max_length < LEAST[texts]:
            of = "" if texts == 1 else " for two texts"
            raise ConfigError(f"task.max_length is at least {LEAST[texts]}{of}, not {self.max_length}")
        one_of("task.long", self.long, ["truncate", "drop", "error"])
        one_of("task.leaks", self.leaks, leaks.WAYS)
        if self.subset is not None:
            parse_subset(self.subset)
        self.how = Splitting(self.folds, self.fold, self.split_seed, self.group, self.time)
        self.how.sources({"train": self.train, "validation": self.validation, "test": self.test})

    @abstractmethod
    def targets(self, rows: Sequence[dict[str, Any]], spec: Spec) -> list[Any]:
        """The targets of examples, from their rows."""

    @abstractmethod
    def describe(self, data: TaskData) -> dict[str, Any]:
        """What the data card says of labels."""

    def labels_of(self, spec: Spec) -> Callable[[Sequence[Any]], list[Any]]:
        """What makes targets the labels of a batch; by default they are."""
        return list

    def epochs_of(self, targets: Sequence[Any]) -> Epochs | None:
        """Which training examples an epoch goes through, where it is not all of them."""
        return None

    def reading(self) -> LabelColumn:
        """How the label column is read."""
        return ONE_NAME

    def in_use(self) -> list[str] | None:
        """The labels whose rows are taken, None for all."""
        return None

    def spec_of(self, labels: tuple[str, ...] | None, config: dict[str, Any], **more: Any) -> Spec:
        """The spec of a head on one vector of a text."""
        length = TextInput(self.max_length)
        return Spec(self.name, "AutoModelForSequenceClassification", length, config, labels=labels, **more)

    def load_table(self, seed: int) -> Splits:
        from ftrun.data.rows import load_splits

        return load_splits(
            train=self.train,
            validation=self.validation,
            test=self.test,
            text=self.text,
            label=self.label,
            subset=self.subset,
            seed=seed,
            leaks=self.leaks,
            reading=self.reading(),
            classes=self.in_use(),
            how=self.how,
        )

    def rows_from(self, table: Splits, labels: Labels | None, extra: list[str]) -> TableRows:
        """The rows of a table that has been read, with further notes of the task."""
        splits = {split: getattr(table, split) for split in SPLITS}
        kept = [*table.notes, *(labels.notes if labels is not None else [])]
        # a file of its own, which has no training rows, need not have the columns
        source = spelled(self.test or self.train or "")
        slices = by_columns(self.slices, splits, source, self.folds) if table.train else {}
        return TableRows(
            splits,
            [*kept, *extra],
            table.fingerprint,
            task=self,
            labels=labels,
            kept_notes=kept,
            slices=slices,
        )

    def load_file(self, file: str, answered: bool, spec: Spec) -> TableRows:
        from ftrun.data.labels import Labels
        from ftrun.data.rows import load_test, read_rows

        if not answered:
            return self.unanswered(read_rows(file), file)
        known = None if spec.labels is None else Labels(list(spec.labels), [])
        table = load_test(
            file,
            text=self.text,
            label=self.label,
            labels=known,
            reading=self.reading(),
            classes=self.in_use(),
        )
        return self.rows_from(table, known, [])

    def unanswered(self, rows: list[Placed], source: str) -> TableRows:
        """Rows to be answered."""
        return TableRows({"test": rows}, inputs=rows, task=self, answered=False, source=source)

    def encode(self, data: TaskData, split: str) -> TableDataset:
        if not data.rows.answered:
            return self.encode_unanswered(data)
        rows, tokenizer = data.rows.splits[split], data.processor
        columns = [[row[name] for row in rows] for name in columns_of(self.text)]
        examples, report = examples_of(
            tokenizer, columns, split=split, max_length=self.max_length, long=self.long
        )
        targets = self.targets([rows[example.row] for example in examples], data.spec)
        for example, target in zip(examples, targets, strict=True):
            example.target, example.place = target, rows[example.row].place(self.text)
        warning = "; warning: this tokenizer puts no separator between the two texts"
        joined = len(columns) == 2 and not separates(tokenizer)
        epochs = self.epochs_of(targets) if split == "train" else None
        return self.dataset(examples, report, data, warning if joined else "", epochs)

    def encode_unanswered(self, data: TaskData) -> TableDataset:
        """Rows of a file without labels; one with an empty text is left out."""
        from ftrun.data.rows import texts_of

        rows, source = data.rows.splits["test"], data.rows.source
        columns = [texts_of(rows, name, source) for name in columns_of(self.text)]
        readable = [row for row, texts in enumerate(zip(*columns, strict=True)) if all(texts)]
        chosen = [[column[row] for row in readable] for column in columns]
        examples, report = examples_of(
            data.processor, chosen, split=source, max_length=self.max_length, long="truncate"
        )
        for example in examples:
            example.row = readable[example.row]
        return self.dataset(examples, report, data)

    def dataset(
        self,
        examples: list[Example],
        report: LengthReport,
        data: TaskData,
        warning: str = "",
        epochs: Epochs | None = None,
    ) -> TableDataset:
        padding = data.processor.pad_token_id
        return TableDataset(examples, report, padding, self.labels_of(data.spec), warning, epochs)


def used(data: TaskData, split: str) -> list[dict[str, Any]]:
    """The rows of a split that became examples."""
    return [data.rows.splits[split][example.row] for example in data.dataset(split).examples]


def texts_of(data: TaskData, split: str) -> list[str]:
    """The text of each of these rows, of two columns both."""
    names = columns_of(data.task.text)
    return ["\n".join(row[name] for name in names) for row in used(data, split)]


def labels_of_rows(data: TaskData) -> dict[str, list[Any]]:
    """What stands in the label column of these rows, of every split."""
    return {split: [row[data.task.label] for row in used(data, split)] for split in SPLITS}
