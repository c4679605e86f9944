"""From a network's outputs to answers, and from answers to scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ftrun.tasks.dataset import Batch, Example

if TYPE_CHECKING:
    from ftrun.tasks.metrics.metric import Metric

Answer = dict[str, Any]
PROBABILITIES = "probabilities"  # the column of those that have one for each label
DIGITS = 6  # of these
MOST = 100  # of more labels the likeliest ones are kept


@dataclass
class Row:
    """One row of a split as it is scored and written: its number, its answer, and the correct one."""

    row: int
    label: Any  # in the words of the data
    answer: Answer  # JSON-ready, by the scorer's columns
    example: Example
    detail: Any = None  # what scores need besides


def by_name(names: Sequence[str], probabilities: Sequence[float]) -> dict[str, float]:
    """The probability of each label, rounded to DIGITS; of more than MOST labels, of the likeliest."""
    found = {name: round(p, DIGITS) for name, p in zip(names, probabilities, strict=True)}
    if len(found) <= MOST:
        return found
    return dict(sorted(found.items(), key=lambda pair: -pair[1])[:MOST])


def as_columns(answer: Answer) -> Answer:
    """The same for a table, which has no objects: a column for each label's probability."""
    each = answer.get(PROBABILITIES) or {}
    plain = {name: value for name, value in answer.items() if name != PROBABILITIES}
    return plain | {f"probability_{name}": value for name, value in each.items()}


class Scorer(ABC):
    """What a task's answers are and how good they are."""

    metrics: dict[str, Metric]  # the first is the main one; `eval_` and `test_` are put before the names
    columns: tuple[str, ...]  # of an answer

    @abstractmethod
    def answers(self, outputs: Any, batch: Batch) -> list[Answer]:
        """What the network answers, one for each example of the batch."""

    @abstractmethod
    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        """One answer for each row; `reference` are those of the dataset's own reference."""

    @abstractmethod
    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        """Every metric but the loss, without prefix."""

    def tables(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What stands behind the scores of a test split: a file's name → its content, JSON-ready.

        Those of details.json (a table's name → a row's → a column's → a number) are shown where small.
        """
        return {}


def prediction_lines(rows: Sequence[Row], slices: Sequence[dict[str, str]] = ()) -> list[dict[str, Any]]:
    """The lines of predictions.jsonl: number, correct answer, what was answered, where the row stands.

    `slices`, if any, are those that each row is in.
    """
    found = []
    for row, own in zip_longest(rows, slices):
        place = row.example.place
        where = {} if place is None else place._asdict()
        found.append(
            {"row": row.row, "label": row.label, **row.answer, **where, **({"slices": own} if own else {})}
        )
    return found


def main_metric(scorer: Scorer) -> str:
    """The name of the metric that chooses the best weights where train.metric names no other."""
    return next(iter(scorer.metrics))
