"""Spans of a text: their loss and how they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ftrun.tasks.losses import IGNORED, Loss, summed_over_places
from ftrun.tasks.metrics import spans
from ftrun.tasks.scorer import Answer, Row, Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.data.squad import Question
    from ftrun.tasks.dataset import Batch, Example

ENDS = ("start", "end")


class SpanScorer(Scorer):
    """The best span of all windows of a question."""

    columns = ("answer", "probability")

    def __init__(self, task: Any) -> None:
        self.metrics, self.task = spans.METRICS, task

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        """The best spans of each window and its null score, the sum at the first token."""
        from ftrun.data.text.answer_spans import candidates

        found, task = [], self.task
        for (starts, ends), passage in zip(
            outputs.detach().float().cpu().numpy(), batch["passages"], strict=True
        ):
            here = slice(passage.start, passage.start + len(passage.spans))
            best = candidates(starts[here], ends[here], passage.spans, task.n_best, task.max_answer_length)
            found.append({"candidates": best, "null": float(starts[0] + ends[0])})
        return found

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        """The best span of all windows of each question, or "" where it has no answer."""
        windows: dict[int, list[Answer]] = {}
        first: dict[int, Example] = {}
        for answer, example in zip(answers, examples, strict=True):
            windows.setdefault(example.row, []).append(answer)
            first.setdefault(example.row, example)
        return [self.row(first[number], found) for number, found in windows.items()]

    def row(self, example: Example, windows: list[Answer]) -> Row:
        from ftrun.data.text.answer_spans import decided

        task, question = self.task, example.target.question
        best = decided(windows, question.context, task.n_best, task.no_answer, task.null_threshold)
        return Row(
            example.row,
            gold_of(question),
            {name: best[name] for name in self.columns},
            example,
            best["n_best"],
        )

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        answers = [row.answer["answer"] for row in rows]
        return spans.scores(answers, [row.label for row in rows], self.task.no_answer)

    def tables(self, rows: Sequence[Row]) -> dict[str, Any]:
        """nbest.json: for each question, by its id, the n best answers."""
        return {"nbest.json": {row.example.target.question.id: row.detail for row in rows}}


def gold_of(question: Question) -> list[str]:
    """The answers that count as correct, each once."""
    return list(dict.fromkeys(question.texts()))


def span_loss(outputs: Tensor, batch: Batch) -> Loss:
    """The mean of the cross-entropies of start and end, summed over windows; of (batch, 2, length)."""
    return Loss(summed_over_places(outputs, batch["labels"]) / len(ENDS))


def labelled_spans(batch: Batch) -> int:
    return int((batch["labels"][:, 0] != IGNORED).sum())
