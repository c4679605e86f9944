"""What the frozen network knows: its features of a task's rows, and logistic regression on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.tasks.dataset import Dataset, Example
    from ftrun.tasks.scorer import Row

BATCH = 32
FOLDS = 5
STRENGTH = 0.1  # inverse regularisation, scikit-learn's C
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # of which the one with the least loss answers out-of-fold
LEAST = -30.0  # a logarithm of a probability counts as this much, so that no single row decides
Pick = Callable[[Any, Any, Any], Any]  # of a layer's inputs, its output, and the network's inputs by name


def features_of(
    dataset: Dataset, model: Model, examples: Sequence[Example], layer: nn.Module, pick: Pick
) -> Any:
    """What `pick` takes from a layer for each example, (examples, width), on the CPU."""
    import torch

    from ftrun.data.batching import sorted_batches

    kept: list[Any] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append((inputs, output)))
    model.eval()
    device = next(model.parameters()).device
    rows: list[Any] = [None] * len(examples)
    pending = sorted_batches([example.size for example in examples], BATCH)
    with torch.no_grad():
        while pending:
            places = pending.pop(0)
            batch = dataset.collate([examples[place] for place in places])["inputs"]
            inputs = {name: value.to(device) for name, value in batch.items()}
            try:
                model(**inputs)
            except torch.OutOfMemoryError:
                if len(places) == 1:
                    raise
                kept.clear()
                pending[:0] = [places[: len(places) // 2], places[len(places) // 2 :]]
                continue
            given, output = kept.pop()
            picked = pick(given, output, inputs).float().cpu()
            for place, row in zip(places, picked, strict=True):
                rows[place] = row
    handle.remove()
    return torch.stack(rows).numpy()


def mean_of_tokens(layer_inputs: Any, output: Any, inputs: dict[str, Tensor]) -> Tensor:
    """The mean of a layer's output over the tokens of each text."""
    hidden = output[0] if isinstance(output, tuple) else output
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    return (hidden * mask).sum(1) / mask.sum(1)


def under_head(layer_inputs: Any, output: Any, inputs: dict[str, Tensor]) -> Tensor:
    """The vector that goes into the head; of a head on every token, the last token's."""
    import torch

    hidden: Tensor = layer_inputs[0]
    if hidden.ndim == 3:
        last = inputs["attention_mask"].shape[1] - 1 - inputs["attention_mask"].flip(1).argmax(1)
        hidden = hidden[torch.arange(len(hidden), device=hidden.device), last]
    return hidden.flatten(1)


def regression(strength: float = STRENGTH) -> Any:
    """Logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))


def answered_out_of_fold(run: Run) -> tuple[list[Row], str]:
    """A run's training rows, each answered by a regression that has not seen it, and on whose features.

    The features are those of the network that the run started from, pooled as the run pools. Raises
    ConfigError where an answer is not one label of a set or several.
    """
    import torch

    from ftrun.experiments.sources import start
    from ftrun.models.head_input import first_of_head
    from ftrun.models.load import load
    from ftrun.settings.read import read
    from ftrun.settings.seeds import stream
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.scorer import PROBABILITIES
    from ftrun.training.devices import open_accelerator

    settings = read(run.settings)
    if PROBABILITIES not in TaskData(settings.task).scorer.columns:
        raise ConfigError(
            f"--split train: out-of-fold probabilities are those of labels, and task={settings.task.name} has"
            " none; possible: --split test"
        )
    data = TaskData.read(settings.task, settings.seed)
    device = open_accelerator(settings.device, settings.train.precision, settings.train.deterministic).device
    model = load(start(settings, run.path), data.spec, stream(settings.seed, "init")).to(device)
    data.encode(model.tokenizer, "train")
    dataset = data.dataset("train")
    examples, names = list(dataset.examples), data.spec.labels or ()
    features = features_of(dataset, model, examples, first_of_head(model), under_head)
    targets = [example.target for example in examples]
    logits = torch.from_numpy(out_of_fold(features, targets, len(names)))
    rows = data.scorer.rows(data.scorer.answers(logits, {"labels": targets}), examples)
    return rows, f"logistic regression in {FOLDS} folds on the frozen features of {model.name}"


def out_of_fold(features: Any, targets: Sequence[Any], classes: int) -> Any:
    """The logits of each row by a regression that has not seen it, (rows, classes), float64.

    A target is a class's number, or a tuple of the numbers of several, where each class is a yes or no with a
    regression of its own. Every fold has its share of each class or set of classes.
    """
    import numpy

    order = sorted(numpy.random.default_rng(0).permutation(len(targets)), key=lambda row: repr(targets[row]))
    fold: Any = numpy.empty(len(targets), dtype=int)
    fold[order] = numpy.arange(len(targets)) % FOLDS
    if not isinstance(targets[0], tuple):
        return log_probabilities(features, numpy.array(targets), fold, classes)
    yes = [numpy.array([int(number in own) for own in targets]) for number in range(classes)]
    both = [log_probabilities(features, own, fold, 2) for own in yes]
    return numpy.stack([each[:, 1] - each[:, 0] for each in both], 1)


def log_probabilities(features: Any, labels: Any, fold: Any, classes: int) -> Any:
    """(rows, classes) at the strength of STRENGTHS that gives the labels the highest mean."""
    import numpy

    rows = numpy.arange(len(labels))
    tried = (fold_by_fold(features, labels, fold, classes, strength) for strength in STRENGTHS)
    return max(tried, key=lambda found: numpy.maximum(found[rows, labels], LEAST).mean())


def fold_by_fold(features: Any, labels: Any, fold: Any, classes: int, strength: float) -> Any:
    """The logarithms of the probabilities, (rows, classes); -inf of a class that no other fold has."""
    import numpy

    found = numpy.full((len(labels), classes), -numpy.inf)
    for number in numpy.unique(fold):
        inside = fold == number
        there = numpy.unique(labels[~inside])
        if len(there) < 2:
            found[numpy.ix_(inside, there)] = 0.0
            continue
        fitted = regression(strength).fit(features[~inside], labels[~inside])
        found[numpy.ix_(inside, there)] = fitted.predict_log_proba(features[inside])
    return found
