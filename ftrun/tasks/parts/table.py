"""What tasks on tables of text share: rows with one text or a pair of them, and a label column."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ftrun.data import leaks
from ftrun.data.folds import Splitting
from ftrun.data.label_columns import ONE_NAME, LabelColumn
from ftrun.data.slices import by_columns
from ftrun.data.sources import spelled
from ftrun.data.splits import SPLIT_SEED, Splits, parse_subset
from ftrun.data.streamed.tables import StreamedSplits
from ftrun.data.tables import Columns, columns_of, one_name
from ftrun.errors import ConfigError
from ftrun.models.architecture import ONE_PER_TEXT
from ftrun.models.spec import Spec, TextInput
from ftrun.settings.checks import one_of
from ftrun.tasks.base import Task
from ftrun.tasks.dataset import SPLITS, Epochs, Example
from ftrun.tasks.parts.long_texts import LONG, examples_in_windows, overlap_of, refuse_sharded
from ftrun.tasks.parts.streamed_table import load_streamed_table, refuse, stored_examples
from ftrun.tasks.parts.table_rows import TableRows
from ftrun.tasks.parts.texts import TableDataset, count_texts, examples_of, refuse_several, unseparated

if TYPE_CHECKING:
    from ftrun.data.labels import Labels
    from ftrun.data.sources import Placed
    from ftrun.data.text.encoding import LengthReport
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.objective import Objective


@dataclass
class TextTable(Task):
    """Rows of a table with one text or a pair of them, and a label whose meaning is the part of the task."""

    name: str
    train: str | list[str] | None
    validation: str | list[str] | None
    test: str | list[str] | None
    text: Columns
    label: Columns
    max_length: int
    long: str
    stride: int | str  # of windows: the tokens that neighbours share
    aggregate: str  # of windows: how their logits become those of the row
    subset: Any  # null, a number of training rows or, of classes, "k per class"
    leaks: str
    folds: int | None
    fold: int | None
    split_seed: int
    group: str | None
    time: str | None
    slices: Columns  # columns of the test rows by whose values they are also scored
    stream: bool

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("task.train is not set; it takes a file (csv, tsv, jsonl, json, txt, parquet)")
        texts = count_texts(self.text, self.max_length)
        self.refuse_labels()
        one_of("task.long", self.long, LONG)
        self.overlap = 0
        if self.in_windows:
            self.overlap = overlap_of(self.stride, self.max_length, self.aggregate, texts, self.stream)
        one_of("task.leaks", self.leaks, leaks.WAYS)
        if self.subset is not None:
            parse_subset(self.subset)
        if self.stream:
            refuse(self.whole())
        self.how = Splitting(self.folds, self.fold, self.split_seed, self.group, self.time)
        self.how.sources({"train": self.train, "validation": self.validation, "test": self.test})

    @property
    def in_windows(self) -> bool:
        return self.long == "windows"

    @property
    def column(self) -> str:
        """The label column; of several, under which name rows have what they say together."""
        return one_name(self.label)

    def check(self, settings: Settings) -> None:
        super().check(settings)
        if self.in_windows:
            refuse_sharded(settings)

    def whole(self) -> dict[str, tuple[Any, Any]]:
        """Settings that look at all training rows at once: their values, and the one at which they do not."""
        by_class = self.subset is not None and parse_subset(self.subset)[1]
        found: dict[str, tuple[Any, Any]] = {
            name: (vars(self)[name], None) for name in ("folds", "group", "time")
        }
        found |= {"split_seed": (self.split_seed, SPLIT_SEED), "leaks": (self.leaks, "warn")}
        return found | ({"subset": (self.subset, parse_subset(self.subset)[0])} if by_class else {})

    def refuse_labels(self) -> None:
        """ConfigError where the label columns are not as many as the task reads."""
        refuse_several(self.label)

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

    def spec_of(self, labels: tuple[str, ...] | None, config: dict[str, Any]) -> Spec:
        """The spec of a head on one vector of a text."""
        length = TextInput(self.max_length)
        one_vector = not self.in_windows or self.aggregate == "mean"  # of which the head is linear too
        spec = Spec(self.name, ONE_PER_TEXT, length, config, labels=labels)
        return replace(spec, regression=one_vector, windows=self.in_windows)

    def by_row(self, objective: Objective) -> Objective:
        """The objective, in which a row counts once however many windows it has."""
        from ftrun.tasks.parts.by_row import ByRow

        return ByRow(objective) if self.in_windows else objective

    def load_table(self, seed: int) -> Splits:
        from ftrun.data.rows import load_splits

        if self.stream:
            return load_streamed_table(self, self.reading(), self.in_use(), self.decides())
        return load_splits(
            train=self.train,
            validation=self.validation,
            test=self.test,
            text=self.text,
            label=self.column,
            subset=self.subset,
            seed=seed,
            leaks=self.leaks,
            reading=self.reading(),
            classes=self.in_use(),
            how=self.how,
        )

    def decides(self) -> list[Any]:
        """What of the kind's own settings decides how a row is read."""
        common = {field.name for field in fields(TextTable)}
        return [vars(self)[field.name] for field in fields(self) if field.name not in common]

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
            stream=table if isinstance(table, StreamedSplits) else None,
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
            label=self.column,
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
        if data.rows.stream is not None and split == "train":
            return self.encode_stored(data)
        rows, tokenizer = data.rows.splits[split], data.processor
        columns = [[row[name] for row in rows] for name in columns_of(self.text)]
        examples, report = self.examples(tokenizer, columns, split, self.long)
        targets = self.targets([rows[example.row] for example in examples], data.spec)
        for example, target in zip(examples, targets, strict=True):
            example.target, example.place = target, rows[example.row].place(self.text)
        epochs = self.epochs_of(targets) if split == "train" else None
        return TableDataset(self, data, examples, report, unseparated(self.text, tokenizer), epochs)

    def encode_stored(self, data: TaskData) -> TableDataset:
        """The training rows of a stream, on the disk."""
        target = lambda label: self.targets([{self.column: label}], data.spec)[0]  # noqa: E731
        examples, report = stored_examples(self, data.processor, data.rows.stream, target)
        return TableDataset(self, data, examples, report, unseparated(self.text, data.processor))

    def encode_unanswered(self, data: TaskData) -> TableDataset:
        """Rows of a file without labels; one with an empty text is left out."""
        from ftrun.data.rows import texts_of
        from ftrun.data.text.encoding import LengthReport

        rows, source = data.rows.splits["test"], data.rows.source
        columns = [texts_of(rows, name, source) for name in columns_of(self.text)]
        readable = [row for row, texts in enumerate(zip(*columns, strict=True)) if all(texts)]
        if not readable:
            return TableDataset(self, data, [], LengthReport(source, 0, 0, 0.0, 0, 0, 0, 0))
        chosen = [[column[row] for row in readable] for column in columns]
        examples, report = self.examples(data.processor, chosen, source, "truncate")
        for example in examples:
            example.row = readable[example.row]
        return TableDataset(self, data, examples, report)

    def examples(
        self, tokenizer: Any, columns: list[list[str]], split: str, long: str
    ) -> tuple[list[Example], LengthReport]:
        """Examples without a target yet, and what became of long texts."""
        if self.in_windows:
            limits = {"max_length": self.max_length, "stride": self.overlap}
            return examples_in_windows(tokenizer, columns[0], split=split, **limits)
        return examples_of(tokenizer, columns, split=split, max_length=self.max_length, long=long)
