"""Text classification: one text or two, one label of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data import balance
from ftrun.data.labels import Labels, classes_of
from ftrun.settings.checks import one_of
from ftrun.tasks.dataset import SPLITS
from ftrun.tasks.parts import labelled
from ftrun.tasks.parts.table import TextTable
from ftrun.tasks.parts.table_rows import TableRows, labels_of_rows, texts_of

if TYPE_CHECKING:
    from ftrun.models.spec import Spec
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Epochs
    from ftrun.tasks.objective import Objective


@dataclass
class Classify(TextTable):
    """One text column or a pair of them, one label column."""

    labels: list[Any] | None  # the declared label names, or null for the union of the splits
    classes: Any  # the labels in use, or null for all
    balance: str

    def __post_init__(self) -> None:
        one_of("task.balance", self.balance, balance.WAYS)
        classes_of(self.classes)
        super().__post_init__()

    def whole(self) -> dict[str, tuple[Any, Any]]:
        return super().whole() | ({"balance": ("sample", "weights")} if self.balance == "sample" else {})

    def decides(self) -> list[Any]:
        return []

    def in_use(self) -> list[str] | None:
        return classes_of(self.classes)

    def load(self, seed: int) -> TableRows:
        from ftrun.data.labels import label_set

        table = self.load_table(seed)
        chosen = self.classes is not None
        return self.rows_from(table, label_set(table, self.column, self.labels, chosen), [])

    def spec(self, source: Any) -> Spec:
        if isinstance(source, TableRows):
            names = tuple(source.labels.names) if source.labels is not None else ()
        else:
            names = () if source is None else labelled.names_in(source)
        return self.spec_of(names, labelled.head_of(names))

    def targets(self, rows: Sequence[dict[str, Any]], spec: Spec) -> list[Any]:
        names = Labels(list(spec.labels or ()), [])
        return [names.index(row[self.column]) for row in rows]

    def epochs_of(self, targets: Sequence[Any]) -> Epochs | None:
        return labelled.balanced_epochs(targets) if self.balance == "sample" else None

    def describe(self, data: TaskData) -> dict[str, Any]:
        labels = labels_of_rows(data)
        weights = labelled.named_weights(data) if self.balance == "weights" else {}
        baselines = labelled.baselines(data, {split: texts_of(data, split) for split in SPLITS}, labels)
        return weights | {"labels": labelled.frequencies_of(data, labels), "baselines": baselines}

    def objective(self, data: TaskData) -> Objective:
        return self.by_row(labelled.class_objective(data, self.balance == "weights"))

    def scorer(self, data: TaskData) -> labelled.ClassScorer:
        return labelled.ClassScorer(data.spec.labels or ())
