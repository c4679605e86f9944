"""Regression: one text or two, and a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.label_columns import NUMBER, LabelColumn, refuse_per_class
from ftrun.data.streamed.survey import Moments
from ftrun.data.streamed.tables import StreamedSplits
from ftrun.errors import DataError, counted
from ftrun.models.spec import label_config
from ftrun.runs.terminal import say
from ftrun.settings.habits import Habits
from ftrun.tasks.dataset import SPLITS
from ftrun.tasks.losses import squared_error
from ftrun.tasks.metrics.regression import METRICS, SAME, scores
from ftrun.tasks.parts.table import TextTable
from ftrun.tasks.parts.table_rows import TableRows, labels_of_rows, texts_of
from ftrun.tasks.scorer import Answer, Row, Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.models.spec import Spec
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch, Example
    from ftrun.tasks.objective import Objective

SMALLEST = 1e-37  # standard deviation that single precision can still tell from 0


@dataclass
class Regress(TextTable):
    """One text column or a pair of them, a column of numbers.

    The network learns (number - mean) / scale with the mean and the standard deviation of the training rows;
    both stand in its configuration as `target_mean` and `target_scale`. The loss is the mean squared error of
    these: 1 for always answering the mean. Everything else is in the units of the column.
    """

    habits: ClassVar[Habits] = Habits(steps=500)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_per_class(self.subset, "numbers have no classes")

    def reading(self) -> LabelColumn:
        return NUMBER

    def decides(self) -> list[Any]:
        return []

    def load(self, seed: int) -> TableRows:
        table = self.load_table(seed)
        found = moments_of(table.train, self.column, table if isinstance(table, StreamedSplits) else None)
        low, high = found.low, found.high
        mean, scale = scaled(found, self.column)
        line = (
            f"train: {self.column} from {low:g} to {high:g}, mean {mean:.4g}, standard deviation {scale:.4g}"
        )
        return self.rows_from(table, None, [line])

    def spec(self, source: Any) -> Spec:
        if source is None:
            return self.spec_of(None, {})
        if isinstance(source, TableRows):
            mean, scale = scaled(moments_of(source.splits["train"], self.column, source.stream), self.column)
        else:
            mean, scale = source.target_mean, source.target_scale
        scaling = {"target_mean": mean, "target_scale": scale}
        config = label_config([self.column], problem_type="regression", **scaling)
        return self.spec_of(None, config)

    def targets(self, rows: Sequence[dict[str, Any]], spec: Spec) -> list[Any]:
        return [row[self.column] for row in rows]

    def labels_of(self, spec: Spec) -> Callable[[Sequence[Any]], list[Any]]:
        """Standardised numbers; what has none yet counts as the mean."""
        mean, scale = standard(spec)
        return lambda targets: [((mean if number is None else number) - mean) / scale for number in targets]

    def describe(self, data: TaskData) -> dict[str, Any]:
        from statistics import fmean, pstdev

        from ftrun.data.baselines import MEAN, NumberWords
        from ftrun.data.card import baseline_scores

        labels, found = labels_of_rows(data), {}
        if data.baselines:
            texts = {split: texts_of(data, split) for split in SPLITS}
            mean, _ = standard(data.spec)

            def always(_: Any, rows: int) -> list[Answer]:
                return [{"answer": mean}] * rows

            score = partial(data.judged, score=self.scorer(data).without_a_word)
            found = baseline_scores(texts, labels, score, always, NumberWords, called=MEAN)
        numbers = {
            split: {
                "lowest": min(part),
                "mean": fmean(part),
                "highest": max(part),
                "deviation": pstdev(part),
            }
            for split, part in labels.items()
        }
        if data.rows.stream is not None:
            own = data.rows.stream.tally.numbers
            found_of = {"lowest": own.low, "mean": own.mean, "highest": own.high, "deviation": own.deviation}
            numbers["train"] = found_of
        return {"numbers": numbers, "baselines": found}

    def objective(self, data: TaskData) -> Objective:
        from ftrun.tasks.objective import Objective

        return self.by_row(Objective(squared_error))

    def scorer(self, data: TaskData) -> NumberScorer:
        return NumberScorer(*(standard(data.spec) if data.spec.config else (0.0, 1.0)))


class NumberScorer(Scorer):
    """Numbers in the units of the column."""

    columns = ("answer",)

    def __init__(self, mean: float, scale: float) -> None:
        self.metrics, self.mean, self.scale = METRICS, mean, scale
        self.said: set[tuple[str, int]] = set()  # of which rows it is known that they have no correlation

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        values = outputs[:, 0].detach().double().cpu().tolist()
        return [{"answer": self.mean + self.scale * value} for value in values]

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        pairs = zip(answers, examples, strict=True)
        return [Row(example.row, example.target, answer, example) for answer, example in pairs]

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        given, answered = numbers_of(rows)
        for what, values in (("label", given), ("answer", answered)):
            if self.alike(values):
                self.warn(what, len(values), values[0])
                break
        return self.scores(given, answered)

    def without_a_word(self, rows: Sequence[Row]) -> dict[str, float]:
        """The same of a baseline, whose lack of a correlation is no fault of the run."""
        return self.scores(*numbers_of(rows))

    def scores(self, given: Any, answered: Any) -> dict[str, float]:
        """Of labels and answers, (rows,) each."""
        return scores(given, answered, constant=self.alike(given) or self.alike(answered))

    def alike(self, values: Any) -> bool:
        """Whether numbers differ by no more than the rounding of what the network answers."""
        return bool(values.max() - values.min() <= SAME * self.scale)

    def warn(self, what: str, rows: int, value: float) -> None:
        """Say that there is no correlation, of as many rows once, however often they are scored."""
        if (what, rows) in self.said:
            return
        self.said.add((what, rows))
        why = f"the {what} of all {rows} rows is {value:.4g}, so" if rows > 1 else "of 1 row"
        say(f"warning: {why} the correlation is undefined; pearson and spearmanr are 0")


def numbers_of(rows: Sequence[Row]) -> tuple[Any, Any]:
    """The labels and the answers, (rows,) each."""
    import numpy

    return numpy.array([row.label for row in rows]), numpy.array([row.answer["answer"] for row in rows])


def standard(spec: Spec) -> tuple[float, float]:
    """Mean and scale of the targets."""
    return spec.config["target_mean"], spec.config["target_scale"]


def moments_of(rows: Sequence[dict[str, Any]], label: str, stream: StreamedSplits | None) -> Moments:
    """Of the training rows' numbers; of a stream they were found when it was read."""
    if stream is not None:
        return stream.tally.numbers
    numbers = [row[label] for row in rows]
    mean = math.fsum(number / len(numbers) for number in numbers)
    # as a length, the squares of small numbers do not vanish
    scale = math.hypot(*(number - mean for number in numbers)) / math.sqrt(len(numbers))
    return Moments(len(numbers), mean, scale, min(numbers), max(numbers))


def scaled(found: Moments, label: str) -> tuple[float, float]:
    """Mean and standard deviation; DataError where there is nothing to learn or no number holds it."""
    if found.low == found.high:
        raise DataError(
            f"task.label={label}: {found.low:g} in each of {counted(found.count, 'training row')};"
            " nothing to learn"
        )
    if not SMALLEST < found.deviation < math.inf:
        raise DataError(f"task.label={label}: from {found.low:g} to {found.high:g}; rescale the column")
    return found.mean, found.deviation
