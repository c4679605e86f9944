"""A temperature for logits and a threshold for each label, fitted on rows that training did not see."""

from __future__ import annotations

from typing import Any

Array = Any  # numpy.ndarray

COLDEST, HOTTEST = 1e-3, 1e3  # only the logits of a network that has learned nothing are off by more


def decisions(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Several labels per row, (rows, labels) of logits and of 0 or 1, as single choices of two classes.

    A label's logit against 0: the softmax over both is the sigmoid. (rows · labels, 2) and (rows · labels,).
    """
    import numpy

    flat = logits.reshape(-1)
    return numpy.stack([numpy.zeros_like(flat), flat], 1), labels.reshape(-1).astype(int)


def log_probabilities(logits: Array, temperature: float) -> Array:
    """(rows, classes), the softmax of the logits divided by the temperature."""
    from scipy.special import log_softmax

    found: Array = log_softmax(logits / temperature, axis=1)
    return found


def mean_nll(logits: Array, labels: Array, temperature: float) -> float:
    """The negative log-likelihood of the labels, in nats per row."""
    chosen = log_probabilities(logits, temperature)[range(len(labels)), labels]
    return float(-chosen.mean())


def fit_temperature(logits: Array, labels: Array) -> float:
    """The temperature with the lowest negative log-likelihood of the labels (Guo et al. 2017, section 4.2).

    `logits` are (rows, classes) and `labels` (rows,). In b = 1/T the likelihood is convex; its slope is the
    logit that the probabilities expect, minus the label's, and grows with b, so its only root is found by
    bisection and interpolation (Brent 1973). T lies in [0.001, 1000]: at the lower end if every row's label
    has the highest logit, at the upper one if the logits are no better than chance.
    """
    import numpy
    from scipy.optimize import brentq
    from scipy.special import softmax

    own = logits[range(len(labels)), labels]

    def slope(b: float) -> float:
        expected = (softmax(b * logits, axis=1) * logits).sum(1)
        return float(numpy.mean(expected - own))

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    return float(1 / brentq(slope, low, high, xtol=1e-12))


def all_right(logits: Array, labels: Array) -> bool:
    """Whether every row's label has the highest logit: then no temperature is the best."""
    return bool((logits[range(len(labels)), labels] == logits.max(1)).all())


def f1_at(probabilities: Array, labels: Array, threshold: float) -> float:
    """F1 of one label, (rows,) both; 0 without a hit."""
    answered = probabilities >= threshold
    hits, all_of_them = int((answered & (labels == 1)).sum()), int(answered.sum() + labels.sum())
    return 2 * hits / all_of_them if all_of_them else 0.0


def fit_threshold(probabilities: Array, labels: Array, default: float) -> float:
    """The threshold with the highest F1 of one label, (rows,) both (Fan and Lin 2007; Lipton et al. 2014).

    It lies midway between two neighbouring probabilities. Of several with the same F1 the nearest to the
    default is taken, which itself stays where it is as good as any, or where no row has the label.
    """
    import numpy

    if not labels.any():
        return default
    ordered = numpy.unique(probabilities)
    candidates = (numpy.concatenate([[0.0], ordered[:-1]]) + ordered) / 2
    order = numpy.sort(probabilities[labels == 1])
    every = numpy.sort(probabilities)
    hits = len(order) - numpy.searchsorted(order, candidates)  # rows at or above each candidate
    answered = len(every) - numpy.searchsorted(every, candidates)
    scores = 2 * hits / (answered + labels.sum())
    best = scores.max()
    if f1_at(probabilities, labels, default) >= best - 1e-12:
        return default
    good = candidates[scores >= best - 1e-12]
    return float(good[numpy.abs(good - default).argmin()])
