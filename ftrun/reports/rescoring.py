"""Scores as functions of sums over items, so that ten thousand resamples of a test set are one product.

An item brings a row of numbers, a resample of the items adds these rows up, and the score is computed from
the sums. The definitions are those of scikit-learn's metrics of the same names (macro averages over the
classes that occur, 0 where nothing can be divided).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

Array = Any  # numpy.ndarray of floats


@dataclass
class Scored:
    """What every item brings, (items, columns), and the score of sums, (…, columns) → (…)."""

    columns: Array
    finish: Callable[[Array], Array]

    @property
    def score(self) -> float:
        """The score of all items as they are."""
        return float(self.finish(self.columns.sum(0)))

    @property
    def left_out(self) -> Array:
        """The scores without each item in turn, (items,)."""
        return self.finish(self.columns.sum(0) - self.columns)


def scored(metric: str, labels: Sequence[Any], answers: Sequence[Any]) -> Scored | None:
    """A metric of labels and answers; None where the two do not tell it."""
    if metric in ("accuracy", "exact_match", "subset_accuracy", "knn_accuracy"):
        return _means([_same(label, answer) for label, answer in zip(labels, answers, strict=True)])
    if all(isinstance(each, str) for each in [*labels, *answers]):
        return _of_classes(metric, [[label] for label in labels], [[answer] for answer in answers])
    if all(isinstance(each, (int, float)) for each in [*labels, *answers]):
        return _of_numbers(metric, numpy.array(labels, float), numpy.array(answers, float))
    if metric in ("micro_f1", "macro_f1") and all(isinstance(each, list) for each in [*labels, *answers]):
        return _of_classes(metric, labels, answers)
    return None


def _same(label: Any, answer: Any) -> float:
    if isinstance(label, list) and isinstance(answer, list):
        return float(sorted(label) == sorted(answer))
    return float(label == answer)


def _means(values: list[float]) -> Scored:
    columns = numpy.array([[value, 1.0] for value in values])
    return Scored(columns, lambda sums: sums[..., 0] / sums[..., 1])


def _of_classes(metric: str, labels: Sequence[list[str]], answers: Sequence[list[str]]) -> Scored | None:
    finish = {
        "f1": _macro_f1, "macro_f1": _macro_f1, "f1_weighted": _weighted_f1, "micro_f1": _micro_f1,
        "precision": _precision, "recall": _recall, "matthews_correlation": _matthews,
    }.get(metric)  # fmt: skip
    if finish is None:
        return None
    names = sorted({name for names in [*labels, *answers] for name in names})
    place = {name: number for number, name in enumerate(names)}
    given, said = (numpy.zeros((len(labels), len(names))) for _ in range(2))
    for table, lists in ((given, labels), (said, answers)):
        for row, chosen in enumerate(lists):
            table[row, [place[name] for name in chosen]] = 1
    columns = numpy.stack([given * said, given, said], axis=1)  # (items, 3, classes)

    def of_sums(sums: Array) -> Array:
        parts = sums.reshape(*sums.shape[:-1], 3, len(names))
        return finish(parts[..., 0, :], parts[..., 1, :], parts[..., 2, :])

    return Scored(columns.reshape(len(labels), -1), of_sums)


def _ratio(top: Array, bottom: Array) -> Array:
    return numpy.divide(top, bottom, out=numpy.zeros(numpy.broadcast(top, bottom).shape), where=bottom > 1e-9)


def _over_present(values: Array, given: Array, said: Array) -> Array:
    present = given + said > 1e-9
    return _ratio((values * present).sum(-1), present.sum(-1).astype(float))


def _macro_f1(both: Array, given: Array, said: Array) -> Array:
    return _over_present(_ratio(2 * both, given + said), given, said)


def _weighted_f1(both: Array, given: Array, said: Array) -> Array:
    return _ratio((_ratio(2 * both, given + said) * given).sum(-1), given.sum(-1))


def _micro_f1(both: Array, given: Array, said: Array) -> Array:
    return _ratio(2 * both.sum(-1), given.sum(-1) + said.sum(-1))


def _precision(both: Array, given: Array, said: Array) -> Array:
    return _over_present(_ratio(both, said), given, said)


def _recall(both: Array, given: Array, said: Array) -> Array:
    return _over_present(_ratio(both, given), given, said)


def _matthews(both: Array, given: Array, said: Array) -> Array:
    """Gorodkin 2004's correlation of several classes, which is Matthews' for two."""
    total = given.sum(-1)
    top = both.sum(-1) * total - (given * said).sum(-1)
    bottom = (total**2 - (said**2).sum(-1)) * (total**2 - (given**2).sum(-1))
    return _ratio(top, numpy.sqrt(numpy.maximum(bottom, 0)))


def _of_numbers(metric: str, labels: Array, answers: Array) -> Scored | None:
    off = answers - labels
    one = numpy.ones_like(off)
    if metric == "mae":
        return Scored(numpy.stack([abs(off), one], 1), lambda sums: sums[..., 0] / sums[..., 1])
    if metric == "rmse":
        return Scored(numpy.stack([off**2, one], 1), lambda sums: numpy.sqrt(sums[..., 0] / sums[..., 1]))
    if metric == "spearmanr":  # ranks among all items; a resample keeps them
        from scipy.stats import rankdata

        labels, answers = rankdata(labels), rankdata(answers)
    elif metric != "pearson":
        return None
    x, y = labels - labels.mean(), answers - answers.mean()
    return Scored(numpy.stack([x, y, x * x, y * y, x * y, one], 1), _pearson)


def _pearson(sums: Array) -> Array:
    x, y, xx, yy, xy, n = numpy.moveaxis(sums, -1, 0)
    spread = numpy.maximum(xx - x * x / n, 0) * numpy.maximum(yy - y * y / n, 0)
    return _ratio(xy - x * y / n, numpy.sqrt(spread))
