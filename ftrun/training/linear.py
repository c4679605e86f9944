"""Linear models on fixed features, fitted by scikit-learn to convergence, and the search for an L2 strength.

The search is that of the linear evaluation of CLIP (Radford et al. 2021, appendix A.3): strengths from 1e6 to
1e-6, two decades apart, then the interval around the best one is halved until strengths are an eighth of a
decade apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from ftrun.errors import UserError

GRID = (6.0, 4.0, 2.0, 0.0, -2.0, -4.0, -6.0)  # logarithms (base 10) of strengths, the strongest first
HALVINGS = (1.0, 0.5, 0.25, 0.125)
MOST = len(GRID) + 2 * len(HALVINGS)  # strengths tried
WORSE = (
    2  # strengths in a row that end the walk down the grid: weaker ones fit the training rows closer still
)
ITERATIONS = 1000  # of L-BFGS, as in CLIP's evaluation
TOLERANCE = 1e-6  # of the gradient of the mean loss
NEVER = -1e4  # the logit of a label without training rows
FLAT = 1e-6  # standard deviation of a unit that says the same of every row

Array = Any  # numpy.ndarray


@dataclass(frozen=True)
class Fit:
    """Weights (outputs, width) and biases (outputs,); whether the optimum was reached."""

    weights: Array
    biases: Array
    converged: bool = True

    def logits(self, features: Array) -> Array:
        """(rows, outputs) of features (rows, width)."""
        return features @ self.weights.T + self.biases


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each unit, (width,)."""

    mean: Array
    scale: Array

    @classmethod
    def of(cls, features: Array, centre: bool = True) -> Scaling:
        """From features (rows, width); without `centre` the mean is 0, for a layer without a bias.

        UserError where a feature is not finite.
        """
        if not numpy.isfinite(features).all():
            raise UserError(
                "the frozen network's features are not finite; possible: train.precision=fp32, another model="
            )
        mean = features.mean(0) if centre else numpy.zeros(features.shape[1])
        scale = numpy.sqrt(((features - mean) ** 2).mean(0))
        scale[scale < FLAT] = 1.0
        return cls(mean, scale)

    def __call__(self, features: Array) -> Array:
        return (features - self.mean) / self.scale

    def undone(self, found: Fit) -> Fit:
        """The fit on scaled features as one with the same logits on the features themselves."""
        weights = found.weights / self.scale
        return replace(found, weights=weights, biases=found.biases - weights @ self.mean)


def fit(
    features: Array,
    labels: Array,
    strength: float,
    outputs: int,
    weights: Array | None = None,
    bias: bool = True,
) -> Fit:
    """The minimum of Σᵢ wᵢ·lossᵢ + strength/2 · Σ W², biases free, where `weights` has wᵢ (1 by default).

    Labels that are whole numbers are classes: multinomial logistic regression (of two classes, binary).
    Zeros and ones, (rows, outputs), are a logistic regression each. Other numbers are ridge regression, whose
    loss is half the squared error.
    """
    if labels.dtype.kind == "i":
        return of_classes(features, labels, strength, outputs, weights, bias)
    if labels.ndim == 2:
        return of_several(features, labels, strength, weights, bias)
    from sklearn.linear_model import Ridge

    found = Ridge(alpha=strength, fit_intercept=bias).fit(features, labels, weights)
    return Fit(found.coef_[None], numpy.array([found.intercept_ if bias else 0.0]))


def of_classes(
    features: Array, labels: Array, strength: float, outputs: int, weights: Array | None, bias: bool
) -> Fit:
    """One label of several; one that no row has gets the logit NEVER."""
    found = Fit(numpy.zeros((outputs, features.shape[1])), numpy.full(outputs, NEVER if bias else 0.0))
    classes = numpy.unique(labels)
    if len(classes) == 1:
        found.biases[classes] = 0.0
        return found
    coefficients, intercepts, converged = logistic(features, labels, strength, weights, bias)
    if len(classes) == 2:  # one row of weights, which is the difference of the two classes'
        coefficients = numpy.concatenate([-coefficients, coefficients]) / 2
        intercepts = numpy.concatenate([-intercepts, intercepts]) / 2
    found.weights[classes], found.biases[classes] = coefficients, intercepts
    return replace(found, converged=converged)


def of_several(features: Array, labels: Array, strength: float, weights: Array | None, bias: bool) -> Fit:
    """A yes or no for each label; one that all rows have, or none, is always answered so."""
    outputs = labels.shape[1]
    found = Fit(numpy.zeros((outputs, features.shape[1])), numpy.zeros(outputs))
    reached = []
    for number, own in enumerate(labels.T):
        if len(numpy.unique(own)) == 2:
            coefficients, intercepts, converged = logistic(features, own, strength, weights, bias)
            found.weights[number], found.biases[number] = coefficients[0], intercepts[0]
            reached.append(converged)
        elif bias:
            found.biases[number] = -NEVER if own.all() else NEVER
    return replace(found, converged=all(reached))


def logistic(
    features: Array, labels: Array, strength: float, weights: Array | None, bias: bool
) -> tuple[Array, Array, bool]:
    """Coefficients, intercepts, and whether L-BFGS converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / strength, fit_intercept=bias, max_iter=ITERATIONS, tol=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is told by the result
        model.fit(features, labels, weights)
    return model.coef_, model.intercept_, bool(model.n_iter_.max() < ITERATIONS)


def following(tried: Iterable[Sequence[float]]) -> float | None:
    """The logarithm of the strength to try next, None at the end of the search.

    Each entry of `tried` is the logarithm of a strength and the numbers that rank it, the lower the better;
    of equals the stronger one is better. The search is a function of them: it can go on at any time.
    """
    known = {first: tuple(rank) for first, *rank in tried}
    walked = [power for power in GRID if power in known]
    if not walked:
        return GRID[0]
    if len(walked) < len(GRID) and walked.index(best_of(walked, known)) >= len(walked) - WORSE:
        return GRID[len(walked)]
    reached = walked
    for step in HALVINGS:
        centre = best_of(reached, known)
        for power in (centre + step, centre - step):
            if abs(power) > GRID[0]:
                continue
            if power not in known:
                return power
            reached = [*reached, power]
    return None


def best_of(powers: Sequence[float], known: dict[float, tuple[float, ...]]) -> float:
    """The power of the lowest rank, of equals the largest."""
    return min(sorted(powers, reverse=True), key=known.__getitem__)


def searched(solve: Callable[[float], Any], loss: Callable[[Any], float]) -> Any:
    """What `solve` makes of the L2 strength with the least loss."""
    found: dict[float, Any] = {}
    known: dict[float, tuple[float, ...]] = {}
    while (power := following([power, *rank] for power, rank in known.items())) is not None:
        found[power] = solve(10.0**power)
        known[power] = (loss(found[power]),)
    return found[best_of(list(known), known)]
