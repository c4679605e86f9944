"""Which strategy to begin with: a table of labels per class and of how close the task is to the pre-training.

Closeness is measured: the accuracy of the frozen model's features, by nearest neighbours and by a
linear probe, against that of the words alone (TF-IDF and logistic regression on the same tokens); and, where
the checkpoint has its pre-training head, its loss on the task's texts (`familiarity`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import DataError
from ftrun.experiments.probing import FOLDS

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Dataset, Example

FEW = 1000  # labels per class
ROWS = 600  # training rows that are measured, at most
NEIGHBOURS = 10
STRENGTH = 10.0  # of the probe's L2 penalty
BATCH = 32


@dataclass
class Closeness:
    """Accuracies on rows that the measuring classifier has not seen."""

    neighbours: float  # leave-one-out, cosine distance of the features
    probe: float  # cross-validated, logistic regression on the features
    words: float  # cross-validated, logistic regression on TF-IDF
    rows: int

    @property
    def lead(self) -> float:
        """How far the better of the two on features is ahead of the words."""
        return max(self.neighbours, self.probe) - self.words


@dataclass
class Advice:
    """A row of the table and the words that follow it."""

    close: bool
    few: bool
    strategy: str
    settings: list[str]
    others: list[str]


def advise(
    closeness: Closeness, gap: float | None, labels_per_class: float, cut: float, most: float
) -> Advice:
    """The row for what was measured: close from a lead of `cut` on, where the words are not `most` harder."""
    close = closeness.lead >= cut and (gap is None or gap <= most)
    few = labels_per_class < FEW
    if close and few:
        return Advice(close, few, "train the top, keep the bottom frozen", ["strategy=freeze"], [])
    if close:
        return Advice(close, few, "train everything", ["strategy=full"], [])
    if few:
        middle = ["strategy=freeze layers=middle"]
        return Advice(close, few, "LoRA, or bottom and top with the middle frozen", ["strategy=lora"], middle)
    rates = ["strategy=full", "train.layer_decay=0.9"]
    return Advice(close, few, "train everything, lower layers at a smaller rate", rates, [])


def measure(data: TaskData, model: Model) -> Closeness:
    """From the encoded training rows and the network as its checkpoint left it."""
    examples = data.dataset("train").examples
    examples = examples[:: max(1, -(-len(examples) // ROWS))]
    targets = [example.target for example in examples]
    smallest = min(targets.count(target) for target in set(targets))
    if len(set(targets)) < 2 or smallest < 2:
        raise DataError("advise: every class needs at least two of the sampled training rows")
    folds = min(FOLDS, smallest)
    features = token_means(data.dataset("train"), model, examples)
    return Closeness(
        neighbours=of_neighbours(features, targets),
        probe=of_probe(features, targets, folds),
        words=of_words(examples, targets, folds),
        rows=len(examples),
    )


def token_means(dataset: Dataset, model: Model, examples: Sequence[Example]) -> Any:
    """The mean of the top layer's output over the tokens of each text, (examples, width)."""
    import torch

    from ftrun.data.batching import sorted_batches
    from ftrun.models.features.prefix import stopped_at

    rows: list[Any] = [None] * len(examples)
    model.eval()
    with torch.no_grad():
        for places in sorted_batches([example.size for example in examples], BATCH):
            inputs = dataset.collate([examples[place] for place in places])["inputs"]
            output = stopped_at(model.layers()[-1], model, inputs)
            hidden = output[0] if isinstance(output, tuple) else output
            mask = inputs["attention_mask"].unsqueeze(-1).float()
            for place, row in zip(places, (hidden * mask).sum(1) / mask.sum(1), strict=True):
                rows[place] = row
    return torch.stack(rows).numpy()


def of_neighbours(features: Any, targets: list[int]) -> float:
    """The share of rows whose nearest other rows vote for their label."""
    import numpy

    features = features - features.mean(0)  # or one direction that all texts share hides the others
    unit = features / numpy.maximum(numpy.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    alike = unit @ unit.T
    numpy.fill_diagonal(alike, -numpy.inf)
    nearest = numpy.argsort(-alike, axis=1)[:, : min(NEIGHBOURS, len(targets) - 1)]
    labels = numpy.array(targets)
    votes = [numpy.bincount(labels[row]).argmax() for row in nearest]
    return float((numpy.array(votes) == labels).mean())


def of_probe(features: Any, targets: list[int], folds: int) -> float:
    """Logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1 / STRENGTH, max_iter=5000))
    return cross_validated(probe, features, targets, folds)


def of_words(examples: Sequence[Example], targets: list[int], folds: int) -> float:
    """Logistic regression on TF-IDF of the tokens."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = [" ".join(map(str, example.inputs)) for example in examples]
    words = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    return cross_validated(
        make_pipeline(words, LogisticRegression(C=10, max_iter=5000)), texts, targets, folds
    )


def cross_validated(classifier: Any, inputs: Any, targets: list[int], folds: int) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(classifier, inputs, targets, cv=split).mean())
