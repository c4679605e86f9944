"""Multi-label text classification: any number of labels per row, each a binary decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.label_columns import LabelColumn, one_each, refuse_per_class, several
from ftrun.data.labels import Labels, declared_names
from ftrun.data.streamed.tables import StreamedSplits
from ftrun.errors import ConfigError, counted
from ftrun.tasks.dataset import SPLITS
from ftrun.tasks.losses import binary_cross_entropy
from ftrun.tasks.metrics.classification import MULTILABEL, multilabel_scores
from ftrun.tasks.parts import labelled
from ftrun.tasks.parts.table import TextTable
from ftrun.tasks.parts.table_rows import TableRows, labels_of_rows, texts_of
from ftrun.tasks.scorer import PROBABILITIES, Answer, Row, Scorer, by_name

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.models.spec import Spec
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch, Example
    from ftrun.tasks.objective import Objective


@dataclass
class Multilabel(TextTable):
    """One text column or a pair of them, and a column with a list of labels, or one for each of the labels.

    A row may have none.
    """

    labels: list[Any] | None  # the declared label names, or null for the union of the splits
    positions: list[Any] | None  # names of the positions in lists of 0 and 1, or null for lists of names
    separator: str | None
    threshold: float

    def __post_init__(self) -> None:
        refuse_per_class(self.subset, "a row may have several labels")
        if not 0 < self.threshold < 1:
            raise ConfigError(f"task.threshold is between 0 and 1, not {self.threshold:g}")
        if self.separator == "":
            raise ConfigError("task.separator is empty; null means that the column holds lists")
        if self.positions is not None:
            declared_names("positions", self.positions)
        super().__post_init__()

    def refuse_labels(self) -> None:
        if isinstance(self.label, str):
            return
        if len({*self.label}) < max(2, len(self.label)):
            raise ConfigError(f"task.label={self.column}: a column, or two or more different ones")
        if self.separator is not None or self.positions is not None:
            raise ConfigError(
                f"task.label={self.column}: each column is of one label and holds 0 or 1, so that there is"
                " neither task.separator nor task.positions, which are of one column with all labels"
            )

    def reading(self) -> LabelColumn:
        if not isinstance(self.label, str):
            return one_each(self.label)
        names = None if self.positions is None else declared_names("positions", self.positions)
        return several(self.separator, names)

    def decides(self) -> list[Any]:
        return [self.separator, self.positions]

    def load(self, seed: int) -> TableRows:
        from ftrun.data.labels import label_set

        table = self.load_table(seed)
        listed = self.positions if isinstance(self.label, str) else self.label
        names = label_set(table, self.column, listed if self.labels is None else self.labels)
        numbers = [len(row[self.column]) for row in table.train]
        many, total, bare = len(numbers), sum(numbers), numbers.count(0)
        if isinstance(table, StreamedSplits):
            tally = table.tally
            many, total, bare = tally.train, tally.counts.total(), tally.bare
        line = (
            f"train: {total / many:.2f} of {len(names.names)} labels per row, "
            f"{bare:,} of {counted(many, 'row')} without a label"
        )
        return self.rows_from(table, names, [line])

    def spec(self, source: Any) -> Spec:
        if isinstance(source, TableRows):
            names = tuple(source.labels.names) if source.labels is not None else ()
        else:
            names = () if source is None else labelled.names_in(source)
        head = labelled.head_of(names)
        head |= {"problem_type": "multi_label_classification"} if head else {}
        return self.spec_of(names, head)

    def targets(self, rows: Sequence[dict[str, Any]], spec: Spec) -> list[Any]:
        names = Labels(list(spec.labels or ()), [])
        return [tuple(sorted(map(names.index, row[self.column]))) for row in rows]

    def labels_of(self, spec: Spec) -> Callable[[Sequence[Any]], list[Any]]:
        """A 1 for each label of a row and a 0 for each other: (batch, labels)."""
        wide = range(len(spec.labels or ()))
        return lambda targets: [[float(index in set(own or ())) for index in wide] for own in targets]

    def describe(self, data: TaskData) -> dict[str, Any]:
        labels = labels_of_rows(data)
        each = {split: [name for row in rows for name in row] for split, rows in labels.items()}
        baselines = labelled.baselines(
            data, {split: texts_of(data, split) for split in SPLITS}, labels, self.threshold
        )
        return {"labels": labelled.frequencies_of(data, each), "baselines": baselines}

    def objective(self, data: TaskData) -> Objective:
        """In training the mean over rows of the sum over labels, in evaluation the mean over both."""
        from ftrun.tasks.objective import Objective, Weighted

        wide = len(data.spec.labels or ())
        evaluation = Objective(binary_cross_entropy, lambda batch: len(batch["labels"]) * wide)
        return self.by_row(Weighted(Objective(binary_cross_entropy), evaluation))

    def scorer(self, data: TaskData) -> MultilabelScorer:
        return MultilabelScorer(data.spec.labels or (), self.threshold)


class MultilabelScorer(Scorer):
    """Every label of at least its threshold, and the probability of each."""

    columns = ("answer", PROBABILITIES)

    def __init__(self, names: Sequence[str], threshold: float) -> None:
        self.metrics, self.names, self.threshold = MULTILABEL, Labels(list(names), []), threshold
        self.thresholds = dict.fromkeys(names, threshold)  # a calibrated network brings its own

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        found = []
        for row in outputs.detach().float().sigmoid().cpu().tolist():
            names = self.names.names
            chosen = [name for name, p in zip(names, row, strict=True) if p >= self.thresholds[name]]
            found.append({"answer": chosen, PROBABILITIES: by_name(names, row)})
        return found

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        names = self.names.names
        return [
            Row(example.row, [names[index] for index in example.target or ()], answer, example)
            for answer, example in zip(answers, examples, strict=True)
        ]

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        return multilabel_scores(*self.indicators(rows))

    def tables(self, rows: Sequence[Row]) -> dict[str, Any]:
        names = self.names.names
        return {
            "details.json": {"classes": labelled.by_class(*self.indicators(rows), names, range(len(names)))}
        }

    def indicators(self, rows: Sequence[Row]) -> tuple[Any, Any]:
        """What is correct and what was answered as zeros and ones, (rows, labels)."""
        import numpy

        shape = len(rows), len(self.names.names)
        labels: Any = numpy.zeros(shape, dtype=int)
        answered: Any = numpy.zeros(shape, dtype=int)
        for number, row in enumerate(rows):
            labels[number, list(row.example.target)] = 1
            answered[number, [self.names.index(name) for name in row.answer["answer"]]] = 1
        return labels, answered
