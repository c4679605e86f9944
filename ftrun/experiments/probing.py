"""Training rows answered out-of-fold, by logistic regression on the frozen network's features of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from ftrun.runs.run import Run
    from ftrun.tasks.scorer import Row

FOLDS = 5
LEAST = -30.0  # a logarithm of a probability counts as this much, so that no single row decides


def answered_out_of_fold(run: Run) -> tuple[list[Row], str]:
    """A run's training rows, each answered by a regression that has not seen it, and on whose features.

    The features are those of the network that the run started from, pooled as the run pools. Raises
    ConfigError where an answer is not one label of a set or several.
    """
    import torch

    from ftrun.experiments.sources import start
    from ftrun.models.load import load
    from ftrun.runs.home import note
    from ftrun.runs.terminal import say
    from ftrun.settings.read import read
    from ftrun.settings.seeds import stream
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import labels_of
    from ftrun.tasks.scorer import PROBABILITIES
    from ftrun.training.devices import open_accelerator
    from ftrun.training.kept.features import features

    settings = read(run.settings)
    why = "all training rows are answered at once, which task.stream=true does not hold"
    if PROBABILITIES not in TaskData(settings.task).scorer.columns:
        why = f"out-of-fold probabilities are those of labels, and task={settings.task.name} has none"
    elif not settings.streamed:
        why = ""
    if why:
        raise ConfigError(f"--split train: {why}; possible: --split test")
    if where := note(run.path, run.home):
        say(where)
    data = TaskData.read(settings.task, settings.seed)
    train = settings.train
    accelerator = open_accelerator(settings.device, train.precision, train.deterministic)
    model = load(start(settings, run.path), data.spec, stream(settings.seed, "init"))
    data.encode(model.tokenizer, "train")
    dataset = data.dataset("train")
    examples, names = list(dataset.examples), data.spec.labels or ()
    found = features(model, dataset, accelerator).double().numpy()
    targets = [example.target for example in examples]
    logits = torch.from_numpy(out_of_fold(found, targets, len(names)))
    answers = data.scorer.answers(logits, {"labels": labels_of(dataset, examples)})
    rows = data.scorer.rows(answers, examples)
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
    """(rows, classes) at the L2 strength that gives the labels the highest mean."""
    import numpy

    from ftrun.training.linear import searched

    rows = numpy.arange(len(labels))

    def loss(found: Any) -> float:
        return -float(numpy.maximum(found[rows, labels], LEAST).mean())

    return searched(lambda strength: fold_by_fold(features, labels, fold, classes, strength), loss)


def fold_by_fold(features: Any, labels: Any, fold: Any, classes: int, strength: float) -> Any:
    """The logarithms of the probabilities, (rows, classes); -inf of a class that no other fold has."""
    import numpy
    from scipy.special import log_softmax

    from ftrun.training.linear import Scaling, fit

    found = numpy.full((len(labels), classes), -numpy.inf)
    for number in numpy.unique(fold):
        inside = fold == number
        scaling = Scaling.of(features[~inside])
        fitted = fit(scaling(features[~inside]), labels[~inside], strength, classes)
        there = numpy.unique(labels[~inside])
        logits = fitted.logits(scaling(features[inside]))[:, there]
        found[numpy.ix_(inside, there)] = log_softmax(logits, axis=1)
    return found
