"""Rows of a table that was read, and what the data card says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftrun.data import leaks
from ftrun.data.tables import columns_of
from ftrun.errors import DataError
from ftrun.tasks.dataset import SPLITS, Example
from ftrun.tasks.parts.rows import TaskRows, tokens_of_rows

if TYPE_CHECKING:
    from ftrun.data.labels import Labels
    from ftrun.data.streamed.tables import StreamedSplits
    from ftrun.tasks.data import TaskData


@dataclass
class TableRows(TaskRows):
    """Rows of a table."""

    labels: Labels | None = None  # the label names that were found, where labels are names
    kept_notes: list[str] = field(default_factory=list)  # those that the data card keeps
    stream: StreamedSplits | None = None  # of which the training rows are not held, but a sample of them

    def lengths(self, examples: Sequence[Example]) -> dict[int, int]:
        return tokens_of_rows(examples)

    def contents(self) -> leaks.SplitTexts:
        if self.stream is not None:
            raise DataError("it was trained with task.stream=true, whose rows are not held")
        return leaks.of_columns(self.splits, self.task.text)

    def card(self, data: TaskData) -> dict[str, Any]:
        from ftrun.data.card import repetitions

        datasets: dict[str, Any] = {split: data.dataset(split) for split in SPLITS}
        found = {
            "rows": {split: len(dataset) for split, dataset in datasets.items()},
            "lengths": {split: dataset.lengths for split, dataset in datasets.items()},
        }
        if self.stream is None:
            rows = {split: used(data, split) for split in SPLITS}
            found |= repetitions(leaks.of_columns(rows, self.task.text), more=self.task.how.leaks(rows))
            found |= self.task.how.card(rows)
        return found | {"notes": list(self.kept_notes)} | self.task.describe(data)


def used(data: TaskData, split: str) -> list[dict[str, Any]]:
    """The rows of a split that became examples, of a stream's training rows a sample."""
    if data.rows.stream is not None and split == "train":
        sample: list[dict[str, Any]] = data.rows.splits[split]
        return sample
    return [data.rows.splits[split][example.row] for example in data.dataset(split).examples]


def texts_of(data: TaskData, split: str) -> list[str]:
    """The text of each of these rows, of two columns both."""
    names = columns_of(data.task.text)
    return ["\n".join(row[name] for name in names) for row in used(data, split)]


def labels_of_rows(data: TaskData) -> dict[str, list[Any]]:
    """What stands in the label column of these rows, of every split."""
    return {split: [row[data.task.column] for row in used(data, split)] for split in SPLITS}
