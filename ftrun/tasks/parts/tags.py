"""Tags of words: their loss and how they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ftrun.tasks.losses import IGNORED, Loss, summed_over_places
from ftrun.tasks.metrics.entities import METRICS, entity_scores, tag_scores
from ftrun.tasks.scorer import Answer, Row, Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.tasks.dataset import Batch, Example


class TagScorer(Scorer):
    """The likeliest tag of each word; entities count where all of them is correct."""

    columns = ("answer", "probability")

    def __init__(self, names: Sequence[str]) -> None:
        self.metrics, self.names = METRICS, names

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        best, labels = outputs.detach().float().softmax(-1).max(-1)
        best, labels = best.cpu(), labels.cpu()
        return [
            {
                "words": words.numbers,
                "answer": [self.names[index] for index in labels[row, words.at].tolist()],
                "probability": best[row, words.at].tolist(),
            }
            for row, words in enumerate(batch["words"])
        ]

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        """The tags of all words of each sentence; a word without a token is O, without a probability."""
        whole: dict[int, Row] = {}
        for answer, example in zip(answers, examples, strict=True):
            words = example.target[0]
            empty: Answer = {"answer": ["O"] * words.count, "probability": [None] * words.count}
            found = whole.setdefault(example.row, Row(example.row, words.tags, empty, example)).answer
            for place, word in enumerate(answer["words"]):
                for column in self.columns:
                    found[column][word] = answer[column][place]
        return [*whole.values()]

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        return tag_scores([row.label for row in rows], [row.answer["answer"] for row in rows])

    def tables(self, rows: Sequence[Row]) -> dict[str, Any]:
        """entities.json: precision, recall, F1 and number of the entities of each type."""
        found = entity_scores([row.label for row in rows], [row.answer["answer"] for row in rows])
        return {"entities.json": {kind or "all": scores for kind, scores in found.items()}}


def tag_loss(outputs: Tensor, batch: Batch) -> Loss:
    """Cross-entropy summed over the labelled words; outputs are (batch, length, labels)."""
    return Loss(summed_over_places(outputs, batch["labels"]))


def labelled_words(batch: Batch) -> int:
    return int((batch["labels"] != IGNORED).sum())
