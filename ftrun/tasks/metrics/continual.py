"""Metrics of a sequence of tasks, from the matrix R: R[i][j] is the score of task j after training task i.

Lopez-Paz & Ranzato 2017 (average accuracy, backward and forward transfer), Chaudhry et al. 2018 (forgetting).
Rows and columns count the tasks in their order; a score that was not measured is None.
"""

from __future__ import annotations

from collections.abc import Sequence

from ftrun.tasks.metrics.metric import Metric, named

METRICS = named(  # in the unit of the score that the matrix holds
    Metric("average", "max"),
    Metric("forgetting", "min"),
    Metric("backward_transfer", "max"),
    Metric("forward_transfer", "max"),
    Metric("intransigence", "min"),
)

Matrix = Sequence[Sequence[float | None]]


def average(matrix: Matrix) -> float:
    """The mean score of all tasks after the last one."""
    return _mean(_known(matrix[-1]))


def forgetting(matrix: Matrix) -> float:
    """The mean drop of each earlier task from its best score before the last task; negative for a gain."""
    last = len(matrix) - 1
    falls = []
    for task in range(last):
        best = max(_known([row[task] for row in matrix[:last]]))
        falls.append(best - _known([matrix[last][task]])[0])
    return _mean(falls)


def backward_transfer(matrix: Matrix) -> float:
    """The mean change of each earlier task from its score right after training it; usually negative."""
    last = len(matrix) - 1
    return _mean([a - b for i in range(last) for a, b in [_known([matrix[last][i], matrix[i][i]])]])


def forward_transfer(matrix: Matrix, untrained: Sequence[float | None]) -> float | None:
    """The mean gain of each later task before it is trained, against the untrained network.

    None where the tasks have heads of their own: an untrained head has nothing to transfer to.
    """
    pairs = [(matrix[i - 1][i], untrained[i]) for i in range(1, len(matrix))]
    known = [now - start for now, start in pairs if now is not None and start is not None]
    return _mean(known) if len(known) == len(pairs) else None


def intransigence(matrix: Matrix, joint: Sequence[float]) -> float:
    """How far each task, right after training it, stays below one network of all tasks; negative above it.

    Chaudhry et al. 2018 compare task k with a network of the tasks up to k; here all have that of every task.
    """
    return _mean([best - now for i, best in enumerate(joint) for now in _known([matrix[i][i]])])


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
