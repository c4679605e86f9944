"""Documents of three splits, what they repeat, and the answers to their blocks added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.leaks import SplitTexts, of_texts
from ftrun.errors import DataError
from ftrun.tasks.dataset import SPLITS, Example
from ftrun.tasks.parts.rows import TaskRows

if TYPE_CHECKING:
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.scorer import Answer

SHOWN = 80  # characters of a document in an example


@dataclass
class Documents(TaskRows):
    """Documents of three splits."""

    def contents(self) -> SplitTexts:
        if self.task.stream:
            raise DataError("it was trained with task.stream=true, whose documents are not held")
        return texts_by_split(self.splits)

    def card(self, data: TaskData) -> dict[str, Any]:
        """Documents, their tokens and blocks, and what they repeat unless they are a stream."""
        from ftrun.data.card import repetitions

        found: dict[str, Any] = {split: data.dataset(split) for split in SPLITS}
        corpora = {split: dataset.examples.corpus for split, dataset in found.items()}
        again = {} if self.task.stream else repetitions(texts_by_split(self.splits), "documents")
        return {
            "rows": {split: corpus.documents for split, corpus in corpora.items()},
            "tokens": {split: len(corpus.tokens) for split, corpus in corpora.items()},
            "blocks": {split: len(dataset) for split, dataset in found.items()},
            **again,
            "notes": self.notes,
        }


def texts_by_split(documents: dict[str, Any]) -> SplitTexts:
    """What the documents say, prompts included."""
    whole = {split: ["\n".join(filter(None, each)) for each in part] for split, part in documents.items()}
    return SplitTexts(
        of_texts(whole).keys, {split: [text[:SHOWN] for text in part] for split, part in whole.items()}
    )


def added_up(answers: Sequence[Answer], examples: Sequence[Example]) -> list[tuple[Answer, Example]]:
    """The answers to the blocks of a row added up, with the first of them."""
    rows: dict[int, Answer] = {}
    some: dict[int, Example] = {}
    for answer, example in zip(answers, examples, strict=True):
        row = rows.setdefault(some.setdefault(example.row, example).row, dict.fromkeys(answer, 0))
        for name, value in answer.items():
            row[name] += value
    return [*zip(rows.values(), some.values(), strict=True)]
