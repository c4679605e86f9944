"""Metrics as functions of sums over items, so that the score without each item in turn costs a subtraction.

Each item has a row of numbers, these rows are added up, and the score is computed from the sums. The
definitions are those of the other files here, which the tests compare it with: scikit-learn's (macro
averages over the classes that occur, 0 where the denominator is 0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftrun.data.entity_tags import entities
from ftrun.tasks.metrics.regression import SAME
from ftrun.tasks.metrics.spans import squad_scores

Array = Any  # numpy.ndarray of floats
LEAST = 4  # rows of a correlation: of two it is 1 or -1, and Fisher's z has a variance from four on


@dataclass
class Scored:
    """The numbers of each item, (items, columns), and the score of their sums, (…, columns) → (…)."""

    columns: Array
    finish: Callable[[Array], Array]
    defined: bool = True  # a correlation with a constant is not, nor one of hardly any rows

    @property
    def score(self) -> float:
        """The score of all items."""
        return float(self.finish(self.columns.sum(0)))

    @property
    def left_out(self) -> Array:
        """The scores without each item in turn, (items,)."""
        if len(self.columns) == 1:  # without it there is no score; it moves nothing
            return self.finish(self.columns)
        return self.finish(self.columns.sum(0) - self.columns)


def scored(metric: str, labels: Sequence[Any], answers: Sequence[Any]) -> Scored | None:
    """A metric of labels and answers; None where it cannot be computed from these."""
    of_labels, of_answers = {*map(type, labels)}, {*map(type, answers)}  # each type is looked at once
    lists, texts = _all(of_labels, list), _all(of_answers, str)
    if metric in ("f1", "exact_match") and lists and texts:
        pairs = squad_scores(answers, labels)
        return _means([exact if metric == "exact_match" else f1 for exact, f1 in pairs])
    if metric in ("f1", "precision", "recall") and lists and _all(of_answers, list):
        return _of_entities(metric, labels, answers)
    if metric in ("accuracy", "exact_match", "subset_accuracy", "knn_accuracy"):
        return _means([_same(label, answer) for label, answer in zip(labels, answers, strict=True)])
    kinds = of_labels | of_answers
    if _all(kinds, str):
        return _of_classes(metric, [[label] for label in labels], [[answer] for answer in answers])
    if _all(kinds, int, float):
        return _of_numbers(metric, labels, answers)
    if metric in ("micro_f1", "macro_f1") and _all(kinds, list):
        return _of_classes(metric, labels, answers)
    return None


def _all(kinds: set[type], *wanted: type) -> bool:
    return all(issubclass(kind, wanted) for kind in kinds)


def _of_entities(metric: str, labels: Sequence[list[str]], answers: Sequence[list[str]]) -> Scored:
    """Of the tags of each sentence: how many entities are right, given and answered."""
    import numpy

    pairs = [(set(entities(given)), set(entities(own))) for given, own in zip(labels, answers, strict=True)]
    columns = numpy.array([[len(given & own), len(given), len(own)] for given, own in pairs], float)

    def of_sums(sums: Array) -> Array:
        right, given, own = numpy.moveaxis(sums, -1, 0)
        bottom = {"f1": given + own, "precision": own, "recall": given}[metric]
        return _ratio((2 if metric == "f1" else 1) * right, bottom)

    return Scored(columns, of_sums)


def _same(label: Any, answer: Any) -> float:
    if type(label) is list and type(answer) is list:
        return float(sorted(label) == sorted(answer))
    return float(label == answer)


def _means(values: list[float]) -> Scored:
    import numpy

    columns = numpy.ones((len(values), 2))
    columns[:, 0] = values
    return Scored(columns, lambda sums: sums[..., 0] / sums[..., 1])


def _of_classes(metric: str, labels: Sequence[list[str]], answers: Sequence[list[str]]) -> Scored | None:
    import numpy

    finish = {
        "f1": _macro_f1, "macro_f1": _macro_f1, "f1_weighted": _weighted_f1, "micro_f1": _micro_f1,
        "precision": _precision, "recall": _recall, "matthews_correlation": _matthews,
    }.get(metric)  # fmt: skip
    if finish is None:
        return None
    names = sorted({name for names in [*labels, *answers] for name in names})
    place = {name: number for number, name in enumerate(names)}
    true, predicted = (numpy.zeros((len(labels), len(names))) for _ in range(2))
    for table, lists in ((true, labels), (predicted, answers)):
        rows: Array = numpy.repeat(
            numpy.arange(len(lists)), numpy.array([len(chosen) for chosen in lists], int)
        )
        table[rows, [place[name] for chosen in lists for name in chosen]] = 1
    columns = numpy.stack([true * predicted, true, predicted], axis=1)  # (items, 3, classes)

    def of_sums(sums: Array) -> Array:
        parts = sums.reshape(*sums.shape[:-1], 3, len(names))
        return finish(parts[..., 0, :], parts[..., 1, :], parts[..., 2, :])

    return Scored(columns.reshape(len(labels), -1), of_sums)


def _ratio(top: Array, bottom: Array) -> Array:
    import numpy

    return numpy.divide(top, bottom, out=numpy.zeros(numpy.broadcast(top, bottom).shape), where=bottom > 1e-9)


def _over_present(values: Array, true: Array, predicted: Array) -> Array:
    present = true + predicted > 1e-9
    return _ratio((values * present).sum(-1), present.sum(-1).astype(float))


def _macro_f1(both: Array, true: Array, predicted: Array) -> Array:
    return _over_present(_ratio(2 * both, true + predicted), true, predicted)


def _weighted_f1(both: Array, true: Array, predicted: Array) -> Array:
    return _ratio((_ratio(2 * both, true + predicted) * true).sum(-1), true.sum(-1))


def _micro_f1(both: Array, true: Array, predicted: Array) -> Array:
    return _ratio(2 * both.sum(-1), true.sum(-1) + predicted.sum(-1))


def _precision(both: Array, true: Array, predicted: Array) -> Array:
    return _over_present(_ratio(both, predicted), true, predicted)


def _recall(both: Array, true: Array, predicted: Array) -> Array:
    return _over_present(_ratio(both, true), true, predicted)


def _matthews(both: Array, true: Array, predicted: Array) -> Array:
    """Gorodkin 2004's correlation of several classes, which is Matthews' for two."""
    import numpy

    total = true.sum(-1)
    top = both.sum(-1) * total - (true * predicted).sum(-1)
    bottom = (total**2 - (predicted**2).sum(-1)) * (total**2 - (true**2).sum(-1))
    return _ratio(top, numpy.sqrt(numpy.maximum(bottom, 0)))


def _of_numbers(metric: str, labels: Sequence[float], answers: Sequence[float]) -> Scored | None:
    import numpy

    x, y = numpy.array(labels, float), numpy.array(answers, float)
    off = y - x
    one = numpy.ones_like(off)
    if metric == "mae":
        return Scored(numpy.stack([abs(off), one], 1), lambda sums: sums[..., 0] / sums[..., 1])
    if metric == "rmse":
        return Scored(numpy.stack([off**2, one], 1), lambda sums: numpy.sqrt(sums[..., 0] / sums[..., 1]))
    varied = bool(numpy.ptp(x) > 0 and numpy.ptp(y) > SAME * x.std())
    if metric == "spearmanr":  # ranks among all items; leaving some out keeps them
        from scipy.stats import rankdata

        x, y = rankdata(x), rankdata(y)
    elif metric != "pearson":
        return None
    x, y = ((own - own.mean()) / (own.std() or 1.0) if varied else 0 * one for own in (x, y))
    return Scored(numpy.stack([x, y, x * x, y * y, x * y, one], 1), _pearson, varied and len(x) >= LEAST)


def _pearson(sums: Array) -> Array:
    import numpy

    x, y, xx, yy, xy, n = numpy.moveaxis(sums, -1, 0)
    spread = numpy.maximum(xx - x * x / n, 0) * numpy.maximum(yy - y * y / n, 0)
    return _ratio(xy - x * y / n, numpy.sqrt(spread))
