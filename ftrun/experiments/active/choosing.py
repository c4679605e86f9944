"""The choice of rows: unsure ones that are unlike each other.

k-means over the features of a pool, each row weighted by how unsure the network is of it (Zhdanov 2019,
"Diverse mini-batch active learning", here on the whole pool): of each cluster the row nearest to its centre.
With few labels the spread over the pool counts for more than the uncertainty (Hacohen et al. 2022):
scripts/bench/RESULTS.md compares it with BADGE (Ash et al. 2020), with the smallest margins and with chance.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

LEAST = 1e-3  # weight of a row that the network is quite sure of

Array = Any  # numpy.ndarray of floats


@dataclass
class Answered:
    """What the network makes of each row of a pool."""

    probabilities: Array  # (rows, classes)
    features: Array  # (rows, width), of which the logits are a linear function
    thresholds: Array | None = None  # (classes,), where each class is a yes or no of its own

    @property
    def margins(self) -> Array:
        """How far the answer is from another one, (rows,): 0 unsure, 1 sure.

        The probability of the likeliest class minus that of the next (Scheffer et al. 2001); of several yes
        or no, the smallest difference between the probabilities of the two.
        """
        import numpy

        if self.thresholds is not None:
            return abs(2 * self.probabilities - 1).min(1)
        two = numpy.sort(self.probabilities, 1)[:, -2:]
        return two[:, 1] - two[:, 0]

    @property
    def sure(self) -> Array:
        """The probability of the answer, (rows,); of several yes or no that of all, as if independent."""
        import numpy

        if self.thresholds is not None:
            yes = self.probabilities >= self.thresholds
            return numpy.where(yes, self.probabilities, 1 - self.probabilities).prod(1)
        return self.probabilities.max(1)

    def chosen(self, count: int, seed: int, sure: bool = True) -> list[int]:
        """`count` rows in the order of what their clusters weigh; not `sure`, all rows weigh the same."""
        import numpy

        weights = numpy.maximum(1 - self.margins, LEAST) if sure else numpy.ones(len(self.features))
        return nearest(self.features, weights, count, seed)


def nearest(features: Array, weights: Array, count: int, seed: int) -> list[int]:
    """One of the features (rows, width) for each centre of weighted k-means, the heaviest cluster first.

    Where several centres share their nearest row, the later ones take their next.
    """
    import numpy
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if count >= len(features):
        return [*map(int, numpy.argsort(-weights, kind="stable"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer rows differ than there are clusters
        found = KMeans(count, n_init=1, random_state=seed % 2**32).fit(features, sample_weight=weights)
    mass = numpy.bincount(found.labels_, weights, minlength=count)
    free: Array = numpy.ones(len(features), dtype=bool)
    rows: list[int] = []
    for cluster in numpy.argsort(-mass, kind="stable"):
        distance = ((features - found.cluster_centers_[cluster]) ** 2).sum(1)
        rows.append(int(numpy.where(free, distance, numpy.inf).argmin()))
        free[rows[-1]] = False
    return rows
