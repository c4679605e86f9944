"""Text classification: one text or two, one label out of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data import balance
from ftrun.data.labels import classes_of
from ftrun.settings.checks import one_of
from ftrun.tasks.base import Batch, Example
from ftrun.tasks.parts.labelled import Labelled
from ftrun.tasks.parts.table import TextTable, collated

if TYPE_CHECKING:
    from ftrun.data.labels import Labels


@dataclass
class Classify(TextTable, Labelled):
    """One text column or a pair of them, one label column."""

    labels: Any  # the declared label names, or null for the union of the splits
    classes: Any  # the labels in use, or null for all
    balance: str

    def __post_init__(self) -> None:
        one_of("task.balance", self.balance, balance.WAYS)
        self.in_use = classes_of(self.classes)  # type: ignore[misc]
        super().__post_init__()

    def balanced_by(self) -> str:
        return self.balance

    def read(self, seed: int) -> list[str]:
        from ftrun.data.rows import label_set

        self.load(seed)
        self.names = label_set(self.rows, self.label, self.labels)
        return [*self.rows.notes, *self.names.notes]

    def target(self, row: dict[str, Any]) -> int:
        return self.names.index(row[self.label])

    def labels_known(self) -> Labels:
        return self.names

    def collate(self, examples: Sequence[Example]) -> Batch:
        inputs = collated(examples, self.pad)
        return {"inputs": inputs, "labels": [example.target for example in examples]}

    def card(self) -> dict[str, Any]:
        from ftrun.data.card import counted

        found, labels = super().card(), self.labels_used()
        found["notes"] += self.names.notes
        baselines = self.baselines(self.texts(), labels)
        return found | self.weighing() | {"labels": counted(labels), "baselines": baselines}
