"""What tasks with one label per example share: cross-entropy on the head's logits, answers, their score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ftrun.data.balance import balanced_rows, class_weights
from ftrun.models.spec import label_config
from ftrun.tasks.dataset import SPLITS, Batch, Epochs, Example, MadeExamples
from ftrun.tasks.losses import Loss, cross_entropy, summed_cross_entropy
from ftrun.tasks.metrics.classification import SINGLE_LABEL, single_label_scores
from ftrun.tasks.scorer import PROBABILITIES, Answer, Row, Scorer, by_name

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.tasks.data import TaskData
    from ftrun.tasks.objective import Objective


def head_of(names: Sequence[str]) -> dict[str, Any]:
    """The configuration of a head with one label out of these."""
    return label_config(list(names), problem_type="single_label_classification") if names else {}


def names_in(config: Any) -> tuple[str, ...]:
    """The labels of a saved network."""
    return tuple(config.id2label[number] for number in range(config.num_labels))


def balanced_epochs(targets: Sequence[int]) -> Epochs:
    """Epochs that have every class equally often."""
    return lambda seed, epoch: balanced_rows(targets, seed, epoch)


def class_objective(data: TaskData, weighted: bool) -> Objective:
    """Cross-entropy over the labels; `weighted`, in training each class by its weight."""
    import torch

    from ftrun.tasks.objective import Objective, Weighted

    plain = Objective(cross_entropy)
    if not weighted:
        return plain
    weights = cache(lambda: weights_of(data))
    on_device = cache(lambda device: torch.tensor(weights(), device=device))

    def targets(batch: Batch) -> float:
        return sum(weights()[label] for label in batch["labels"].tolist())

    def loss(outputs: Tensor, batch: Batch) -> Loss:
        return Loss(summed_cross_entropy(outputs, batch["labels"], on_device(outputs.device)))

    return Weighted(Objective(loss, targets), plain)


class ClassScorer(Scorer):
    """The likeliest label, its probability, and that of each label."""

    columns = ("answer", "probability", PROBABILITIES)

    def __init__(self, names: Sequence[str]) -> None:
        self.metrics, self.names = SINGLE_LABEL, list(names)

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        probabilities = outputs.detach().float().softmax(-1).cpu()
        highest, likeliest = probabilities.max(-1)
        return [
            {"answer": self.names[label], "probability": most, PROBABILITIES: by_name(self.names, each)}
            for label, most, each in zip(
                likeliest.tolist(), highest.tolist(), probabilities.tolist(), strict=True
            )
        ]

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        return [
            Row(
                example.row,
                None if example.target is None else self.names[example.target],
                {name: answer[name] for name in self.columns},
                example,
                answer,
            )
            for answer, example in zip(answers, examples, strict=True)
        ]

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        return single_label_scores([row.label for row in rows], [row.answer["answer"] for row in rows])

    def tables(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Scores of each class, and how often each label was predicted as which."""
        labels, predicted = [row.label for row in rows], [row.answer["answer"] for row in rows]
        names = self.names
        confusion: dict[str, dict[str, int]] = {name: {name: 0} for name in names}
        for pair in sorted(zip(labels, predicted, strict=True), key=lambda pair: names.index(pair[1])):
            confusion[pair[0]][pair[1]] = confusion[pair[0]].get(pair[1], 0) + 1
        classes = by_class(labels, predicted, names, names)
        return {"details.json": {"classes": classes, "confusion": confusion}}


def weights_of(data: TaskData) -> list[float]:
    """The weight of each class in training, from the training examples."""
    names, counted = list(data.spec.labels or ()), counted_of(data)
    if counted is None:
        targets = Counter(example.target for example in data.dataset("train").examples)
    else:
        targets = Counter({names.index(name): count for name, count in counted.items()})
    return class_weights(targets, len(names))


def counted_of(data: TaskData) -> Counter[str] | None:
    """How often the training examples have each label, where these are not held."""
    examples = data.dataset("train").examples
    return examples.label_counts() if isinstance(examples, MadeExamples) else None


def named_weights(data: TaskData) -> dict[str, Any]:
    """What the data card says of them."""
    return {"weights": dict(zip(data.spec.labels or (), weights_of(data), strict=True))}


def examples_card(data: TaskData) -> dict[str, Any]:
    """Examples, their labels, and what always predicting the most frequent one would score."""
    from ftrun.data.card import frequencies

    names = data.spec.labels or ()
    labels = {split: [names[e.target] for e in data.dataset(split).examples] for split in SPLITS}
    rows = {split: len(part) for split, part in labels.items()}
    return {"rows": rows, "labels": frequencies(labels), "baselines": baselines(data, None, labels)}


def frequencies_of(data: TaskData, labels: dict[str, list[Any]]) -> dict[str, dict[str, int]]:
    """How often each name occurs in each split, the most frequent first; of a stream's train in all rows."""
    from ftrun.data.card import frequencies

    counted = counted_of(data)
    return frequencies(labels) | ({} if counted is None else {"train": dict(counted.most_common())})


def baselines(
    data: TaskData,
    texts: dict[str, list[str]] | None,
    labels: dict[str, list[Any]],
    threshold: float | None = None,
) -> dict[str, Any]:
    """Their scores by the task's own metrics, none where they are not wanted; see `baseline_scores`.

    With a threshold a row has several labels, those of at least this probability.
    """
    from ftrun.data.baselines import SeveralWords, majority_of_several
    from ftrun.data.card import baseline_scores

    if not data.baselines:
        return {}
    counted = counted_of(data)
    if threshold is None:
        return baseline_scores(texts, labels, data.judged, counted=counted)
    kind = partial(SeveralWords, threshold=threshold)
    return baseline_scores(texts, labels, data.judged, majority_of_several, kind, counted)


def by_class(
    labels: Any, predicted: Any, names: Sequence[str], classes: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and the rows of each class; 0 where a division by zero would be."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = ("precision", "recall", "f1", "support")
    scores = precision_recall_fscore_support(labels, predicted, labels=list(classes), zero_division=0)
    return {
        name: dict(zip(columns, [*map(float, row[:3]), int(row[3])], strict=True))
        for name, row in zip(names, zip(*scores, strict=True), strict=True)
    }
