"""What tasks with one label per example share: cross-entropy on the head's logits, answers, their score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.balance import balanced_rows, class_weights
from ftrun.data.splits import pick
from ftrun.tasks.base import SPLITS, Answer, Batch, Example, Task

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

    from ftrun.data.labels import Labels


@dataclass
class Labelled(Task):
    """One label out of a set, `names`; what is labelled is the part of the task itself."""

    metrics: ClassVar[dict[str, str]] = {
        "accuracy": "max",
        "f1": "max",
        "f1_weighted": "max",
        "precision": "max",
        "recall": "max",
        "matthews_correlation": "max",
        "loss": "min",
    }
    default_metric: ClassVar[str] = "accuracy"
    answer_columns: ClassVar[tuple[str, ...]] = ("answer", "probability")

    def __post_init__(self) -> None:
        self.names: Labels
        self.encoded: dict[str, list[Example]] = {}

    def head(self) -> dict[str, Any]:
        names = self.names.names
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": "single_label_classification",
        }

    def restore(self, config: PretrainedConfig) -> None:
        from ftrun.data.labels import Labels

        self.names = Labels([config.id2label[i] for i in range(config.num_labels)], [])

    def examples(self, split: str) -> Sequence[Example]:
        return self.encoded[split]

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        import torch

        labels = torch.tensor(batch["labels"], device=outputs.device)
        return torch.nn.functional.cross_entropy(outputs.float(), labels, reduction="sum"), len(labels)

    def balanced_by(self) -> str:
        """none, weights or sample; for a task with the setting."""
        return "none"

    @cached_property
    def weights(self) -> list[float]:
        """The weight of each class in training, from the training rows in use."""
        return class_weights([example.target for example in self.encoded["train"]], len(self.names.names))

    def weighing(self) -> dict[str, Any]:
        """What the data card says of the weights, where there are any."""
        if self.balanced_by() != "weights":
            return {}
        return {"weights": dict(zip(self.names.names, self.weights, strict=True))}

    def training_count(self, batch: Batch) -> float:
        if self.balanced_by() != "weights":
            return len(batch["labels"])
        return sum(self.weights[label] for label in batch["labels"])

    def training_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        import torch

        if self.balanced_by() != "weights":
            return self.loss(outputs, batch)[0]
        labels = torch.tensor(batch["labels"], device=outputs.device)
        weights = torch.tensor(self.weights, device=outputs.device)
        return torch.nn.functional.cross_entropy(outputs.float(), labels, weight=weights, reduction="sum")

    def epoch_rows(self, seed: int, epoch: int) -> Sequence[int]:
        if self.balanced_by() != "sample":
            return super().epoch_rows(seed, epoch)
        return balanced_rows([example.target for example in self.encoded["train"]], seed, epoch)

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        probabilities = outputs.detach().float().softmax(-1).cpu()
        names = self.names.names
        return [
            {"answer": names[int(row.argmax())], "probability": float(row.max())} for row in probabilities
        ]

    def given(self, example: Example) -> Any:
        return self.names.names[example.target]

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, precision_score, recall_score

        given = [self.given(example) for example in examples]
        answered = [answer["answer"] for answer in answers]
        several = len({*given, *answered}) > 1
        macro = {"average": "macro", "zero_division": 0}
        return {
            "accuracy": float(accuracy_score(given, answered)),
            "f1": float(f1_score(given, answered, **macro)),
            "f1_weighted": float(f1_score(given, answered, average="weighted", zero_division=0)),
            "precision": float(precision_score(given, answered, **macro)),
            "recall": float(recall_score(given, answered, **macro)),
            # nothing to correlate where all is one label, of which scikit-learn warns
            "matthews_correlation": float(matthews_corrcoef(given, answered)) if several else 0.0,
        }

    def card(self) -> dict[str, Any]:
        """Examples, their labels, and what always saying the most frequent one would score."""
        from ftrun.data.card import counted

        labels = {split: [self.given(each) for each in self.examples(split)] for split in SPLITS}
        rows = {split: len(names) for split, names in labels.items()}
        return {"rows": rows, "labels": counted(labels), "baselines": self.baselines(None, labels)}

    def baselines(
        self, texts: dict[str, list[str]] | None, labels: dict[str, list[Any]], threshold: float | None = None
    ) -> dict[str, Any]:
        """Their scores by the task's own metrics; see `baseline_scores`."""
        from ftrun.data.card import baseline_scores

        def score(answers: Sequence[Answer], split: str, places: Sequence[int]) -> dict[str, float]:
            return self.score(answers, pick(self.examples(split), places))

        return baseline_scores(texts, labels, score, threshold)

    def details(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, Any]:
        """Scores of each class, and how often each given label was answered with which."""
        given = [self.given(example) for example in examples]
        answered = [answer["answer"] for answer in answers]
        names = self.names.names
        confusion: dict[str, dict[str, int]] = {name: {name: 0} for name in names}
        for pair in sorted(zip(given, answered, strict=True), key=lambda pair: names.index(pair[1])):
            confusion[pair[0]][pair[1]] = confusion[pair[0]].get(pair[1], 0) + 1
        return {"classes": by_class(given, answered, names, names), "confusion": confusion}


def by_class(
    given: Any, answered: Any, names: list[str], labels: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and the rows of each class; 0 where a division by zero would be."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = ("precision", "recall", "f1", "support")
    scores = precision_recall_fscore_support(given, answered, labels=list(labels), zero_division=0)
    return {
        name: dict(zip(columns, [*map(float, row[:3]), int(row[3])], strict=True))
        for name, row in zip(names, zip(*scores, strict=True), strict=True)
    }
