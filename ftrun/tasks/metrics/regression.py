"""Regression metrics: correlations, and errors in the units of the label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.tasks.metrics.metric import CORRELATION, ERROR, LOSS, Metric, named

if TYPE_CHECKING:
    from numpy import ndarray

METRICS = named(
    Metric("pearson", "max", ends=CORRELATION),
    Metric("spearmanr", "max", ends=CORRELATION),
    Metric("mae", "min", ends=ERROR),
    Metric("rmse", "min", ends=ERROR),
    LOSS,
)

SAME = 1e-6  # standard deviations of the labels: answers closer together differ by the rounding of fp32


def scores(labels: ndarray, answers: ndarray, constant: bool) -> dict[str, float]:
    """Every metric but the loss; a constant has no correlation, which counts as 0."""
    return {
        "pearson": 0.0 if constant else correlation(labels, answers),
        "spearmanr": 0.0 if constant else correlation(ranks(labels), ranks(answers)),
        "mae": float(abs(labels - answers).mean()),
        "rmse": float(((labels - answers) ** 2).mean() ** 0.5),
    }


def correlation(one: ndarray, other: ndarray) -> float:
    """Pearson's."""
    import numpy

    return float(numpy.corrcoef(one, other)[0, 1])


def ranks(values: ndarray) -> ndarray:
    """From 1; equal numbers share the mean of theirs, as in Spearman's correlation."""
    import numpy

    _, inverse, counts = numpy.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]
