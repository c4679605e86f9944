"""Confident learning (Northcutt, Jiang & Chuang 2021): rows whose given label the probabilities contradict.

They must be of rows that the classifier has not learned from: those of a test split, or out-of-fold ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Array = Any  # numpy.ndarray
NONE = 2.0  # the threshold of a class that no row has, which no probability reaches
MANY = 0.2  # of the rows; in ten benchmarks at most a tenth of the labels are wrong (Northcutt et al. 2021b)
SLACK = 1e-6  # by which a probability may lie below a threshold, for its rounding


@dataclass
class Doubt:
    """A row whose given label is in doubt."""

    at: int  # its place among the rows
    label: str  # the label in doubt; of several, with "not" before one that is not given
    probability: float  # of the label: its self-confidence
    instead: str  # what the row would be labelled
    other: float  # the probability of that


def contradicted(probabilities: Array, labels: Array) -> Array:
    """Which rows are off the diagonal of the confident joint, booleans (rows,).

    `probabilities` are (rows, classes), `labels` the class numbers given. A class's threshold is the mean
    probability of it among the rows labelled so; a row counts as the class whose threshold it reaches, as the
    likeliest one where it reaches several. A row whose label is the likeliest is never in doubt. These are
    the rows of `find_label_issues(filter_by="confident_learning")` of cleanlab 2.9.
    """
    import numpy

    rows, classes = probabilities.shape
    thresholds = numpy.full(classes, NONE)
    for number in numpy.unique(labels):
        thresholds[number] = probabilities[labels == number, number].mean()
    reached = probabilities >= thresholds - SLACK
    likeliest = probabilities.argmax(1)
    counted = numpy.where(reached.sum(1) > 1, likeliest, reached.argmax(1))
    given = probabilities[numpy.arange(rows), labels]
    return reached.any(1) & (counted != labels) & (given < probabilities.max(1))


def doubts(labels: Sequence[Any], found: Sequence[dict[str, float]]) -> list[Doubt]:
    """The rows in doubt, the least probable label first, from each row's probability of each label.

    A label is a name; where it is a list of names, each label is a yes or no of its own.
    """
    import numpy

    several = any(isinstance(label, list) for label in labels)
    names = list(dict.fromkeys(name for row in found for name in row))
    table = numpy.array([[row.get(name, 0.0) for name in names] for row in found])
    parts = of_several(labels, names, table) if several else of_one(labels, names, table)
    return sorted(parts, key=lambda doubt: (doubt.probability, doubt.at))


def of_one(labels: Sequence[str], names: list[str], table: Array) -> list[Doubt]:
    """Rows with one label each; one that has no probability anywhere is left out."""
    import numpy

    place = {name: number for number, name in enumerate(names)}
    kept = numpy.array([row for row, label in enumerate(labels) if label in place], dtype=int)
    if not len(kept):
        return []
    given = numpy.array([place[labels[row]] for row in kept])
    found = []
    for row, label in zip(kept[chosen := contradicted(table[kept], given)], given[chosen], strict=True):
        best = int(table[row].argmax())
        own, other = float(table[row, label]), float(table[row, best])
        found.append(Doubt(int(row), names[label], own, names[best], other))
    return found


def of_several(labels: Sequence[list[str]], names: list[str], table: Array) -> list[Doubt]:
    """Rows with any number of labels: each label's yes or no is judged by itself."""
    import numpy

    found = []
    for number, name in enumerate(names):
        given = numpy.array([int(name in own) for own in labels])
        both = numpy.stack([1 - table[:, number], table[:, number]], 1)
        words = (f"not {name}", name)
        for row in numpy.flatnonzero(contradicted(both, given)):
            own, label = both[row], given[row]
            doubt = Doubt(int(row), words[label], float(own[label]), words[1 - label], float(own[1 - label]))
            found.append(doubt)
    return found


def caution(number: int, rows: int) -> list[str]:
    """What is to be said of so many doubts, if anything."""
    if number <= MANY * rows:
        return []
    return [
        "so many say more of the answers, which are often wrong, than of the labels: train a better run first"
    ]
