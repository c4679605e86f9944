"""Tests over several data sets: Friedman's, the signed-rank test in pairs, and its Bayesian form."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ftrun.reports.statistics.significance import ALPHA, holm

Array = Any  # numpy.ndarray of floats
ROPE = 0.01  # practically equal: at most a point apart (Benavoli et al. 2017, section 3.3)
STRENGTH = 0.5  # of the prior, that of one half data set without a difference (Benavoli et al. 2017)
DRAWS = 50_000  # as many as in the authors' baycomp
FEWEST = 3  # data sets


@dataclass
class Friedman:
    """Whether the ways differ at all."""

    chi_square: float
    f: float  # Iman and Davenport's; infinite where all data sets give the same order
    p: float  # of f


@dataclass
class Versus:
    """Two ways over the data sets whose scores are shares; the first has the lower average rank."""

    first: int
    second: int
    difference: float  # mean of first minus second
    better: float  # probabilities that the first is better, practically equal, worse
    equal: float
    worse: float
    p: float
    corrected: float = 1.0

    @property
    def apart(self) -> bool:
        return self.corrected < ALPHA


def friedman(ranks: Array) -> Friedman:
    """Friedman's test of ranks (sets, ways), at least 3 of both, corrected for ties (Friedman 1937).

    Its chi-square is undesirably conservative, so that p is of F = (N-1)·chi² / (N·(k-1) - chi²) with k-1 and
    (k-1)·(N-1) degrees of freedom (Iman and Davenport 1980; Demšar 2006, section 3.2.2).
    """
    import numpy
    from scipy.stats import f, friedmanchisquare

    sets, ways = ranks.shape
    if numpy.ptp(ranks) == 0:
        return Friedman(0.0, 0.0, 1.0)
    chi_square = float(friedmanchisquare(*ranks.T).statistic)
    room = sets * (ways - 1) - chi_square
    if room < 1e-9:
        return Friedman(chi_square, float("inf"), 0.0)
    value = (sets - 1) * chi_square / room
    return Friedman(chi_square, value, float(f.sf(value, ways - 1, (ways - 1) * (sets - 1))))


def signed_rank(differences: Array) -> float:
    """The two-sided p of Wilcoxon's (1945) test of differences (sets,), exact for up to 50 without ties.

    A difference of 0 counts half for either side (Demšar 2006, section 3.1.3).
    """
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="zsplit").pvalue)


def smallest_p(sets: int, pairs: int) -> float:
    """What Holm leaves of the smallest p that so many data sets can give: all differences of one sign."""
    return min(1.0, pairs * 2.0 ** (1 - sets))


def sets_needed(pairs: int) -> int:
    """The fewest data sets with which a pair can be told apart."""
    return next(sets for sets in range(1, 100) if smallest_p(sets, pairs) < ALPHA)


def bayesian(differences: Array, rope: float = ROPE, seed: int = 0) -> tuple[float, float, float]:
    """Probabilities that the first is better, practically equal, worse, from differences (sets,).

    The Bayesian signed-rank test (Benavoli et al. 2014; Benavoli, Corani, Demšar and Zaffalon 2017, section
    4.2): with weights w ~ Dirichlet(s, 1, …, 1) of a pseudo-difference 0 and the differences z, the mass of
    z_i + z_j > 2·rope is Σ w_i·w_j over these pairs, and so for the others. Each probability is the share of
    50,000 draws in which its mass is the largest.
    """
    import numpy

    z = numpy.concatenate([[0.0], differences])
    weights = numpy.random.default_rng(seed).dirichlet([STRENGTH, *[1.0] * (len(z) - 1)], DRAWS)
    sums = z[:, None] + z[None, :]
    above, below = (numpy.heaviside(side - 2 * rope, 0.5) for side in (sums, -sums))
    right, left = (((weights @ side) * weights).sum(1) for side in (above, below))
    masses = numpy.stack([right, 1 - right - left, left], 1)
    better, equal, worse = numpy.bincount(masses.argmax(1), minlength=3) / DRAWS
    return float(better), float(equal), float(worse)


def versus(gains: Array) -> list[Versus]:
    """Every pair of ways from their scores (sets, ways), where more is better, Holm-corrected.

    Pairs are tested by Wilcoxon's signed ranks and not by Nemenyi's mean ranks, whose verdict on two ways
    depends on the others (Benavoli, Corani and Mangili 2016).
    """
    found = []
    for first, second in combinations(range(gains.shape[1]), 2):
        differences = gains[:, first] - gains[:, second]
        chances = bayesian(differences)
        found.append(Versus(first, second, float(differences.mean()), *chances, signed_rank(differences)))
    for pair, corrected in zip(found, holm([pair.p for pair in found]), strict=True):
        pair.corrected = corrected
    return found


def alike(ways: int, pairs: list[Versus]) -> list[list[int]]:
    """The largest sets of ways of which no two are told apart, each of at least two."""
    near: dict[int, set[int]] = {way: set() for way in range(ways)}
    for pair in pairs:
        if not pair.apart:
            near[pair.first].add(pair.second)
            near[pair.second].add(pair.first)
    found: list[list[int]] = []

    def grow(chosen: list[int], possible: set[int], seen: set[int]) -> None:  # Bron and Kerbosch 1973
        if not possible and not seen and len(chosen) > 1:
            found.append(sorted(chosen))
        for way in sorted(possible):
            grow([*chosen, way], possible & near[way], seen & near[way])
            possible, seen = possible - {way}, seen | {way}

    grow([], set(near), set())
    return sorted(found)
