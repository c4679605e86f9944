"""Studies of known truth for trust.py, and what the report's functions say of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy
from scipy.optimize import brentq
from scipy.special import expit, ndtr, stdtr

from ftrun.reports.statistics.seeds import Runs
from ftrun.reports.statistics.significance import estimate, holm
from ftrun.reports.study import Study, tested

Array = Any
ITEM, OWN = 3.7, 1.2  # on the logit scale
NODES, WEIGHTS = numpy.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
STILL = float(numpy.hypot(ITEM, OWN))
Family = tuple[list[Runs], list[float]]  # the ways' runs, and their true scores
KNOWN: dict[tuple[float, float], tuple[float, float]] = {}


def accuracy(way: float, spread: float) -> float:
    """The truth of a way, whose items and seeds have this standard deviation together."""
    return float(WEIGHTS @ expit(way + spread * NODES))


def way_of(score: float, points: float) -> tuple[float, float]:
    """The way's and the seed's effect on the logit scale for a true accuracy and its spread over seeds."""
    if (score, points) not in KNOWN:
        middle = brentq(lambda way: accuracy(way, STILL) - score, -30, 30)
        chance = expit(middle + STILL * NODES)
        seed = points / 100 / float(WEIGHTS @ (chance * (1 - chance)))
        spread = float(numpy.hypot(STILL, seed))
        KNOWN[score, points] = brentq(lambda way: accuracy(way, spread) - score, -30, 30), seed
    return KNOWN[score, points]


def runs_of(hits: Array, folds: Array | None = None) -> Runs:
    """The runs of one way from its answers, (seeds, items), right or wrong."""
    left_out = (hits.sum(1)[:, None] - hits) / (hits.shape[1] - 1)
    return Runs([*range(len(hits))], hits.mean(1), left_out.T, folds)


def drawn(
    chance: Any,
    scores: list[float],
    spreads: list[float],
    items: int,
    seeds: list[int],
    shared: float = 0.0,
) -> Family:
    """One study; `shared` correlates the runs of one seed. With one seed each the truth is the runs' own."""
    ease, most, found, truths = chance.normal(0, ITEM, items), max(seeds), [], []
    common, luck = chance.normal(size=(most, 1)), chance.normal(size=(most, items)) if shared else 0.0
    for score, points, count in zip(scores, spreads, seeds, strict=True):
        way, seed = way_of(score, points)
        mine = shared**0.5 * common[:count] + (1 - shared) ** 0.5 * chance.normal(size=(count, 1))
        sure = expit(way + ease + chance.normal(0, OWN, items) + seed * mine)
        draw = chance.normal(size=(count, items)) if shared else chance.random((count, items))
        if shared:
            draw = ndtr(shared**0.5 * luck[:count] + (1 - shared) ** 0.5 * draw)
        found.append(runs_of(draw < sure))
        truths.append(score if most > 1 else accuracy(way + seed * float(mine[0, 0]), STILL))
    return found, truths


def before(family: list[Runs], truths: list[float]) -> tuple[list[bool], bool]:
    """What the sum of both errors with a paired t over seeds said: coverage, and whether a verdict fell."""
    covered, ps = [], []
    for (first, second), truth in zip(combinations(family, 2), truths, strict=True):
        apart = first.observed - second.observed
        effect = first.influence.mean(1) - second.influence.mean(1)
        items, count = float((effect**2).mean()) / len(effect), len(apart)
        seeds = float(apart.var(ddof=1)) / count if count > 1 else 0.0
        freedom = min(1e9, (count - 1) * ((items + seeds) / seeds) ** 2 if seeds else 1e9)
        error = (items + seeds) ** 0.5 or 1e-9
        covered.append(2 * stdtr(freedom, -abs(apart.mean() - truth) / error) >= 0.05)
        ps.append(float(2 * stdtr(freedom, -abs(apart.mean()) / error)))
    return covered, min(holm(ps)) < 0.05


def judged(
    families: Iterable[Family], equal: list[bool], old_truths: list[float] | None = None
) -> dict[str, float]:
    """Percent over studies: coverage, verdicts on equal pairs in a family, and power on the others."""
    score, cover, apart, old, old_apart = [], [], [], [], []
    for family, truths in families:
        studies = [Study("", "", [], runs, estimate(runs, family, share=True), {}) for runs in family]
        pairs = tested([*combinations(studies, 2)])
        gaps = [one - other for one, other in combinations(truths, 2)]
        score.append([s.score.low <= t <= s.score.high for s, t in zip(studies, truths, strict=True)])
        cover.append([p.found.low <= gap <= p.found.high for p, gap in zip(pairs, gaps, strict=True)])
        apart.append([pair.apart for pair in pairs])
        if len({len(runs.seeds) for runs in family}) == 1:
            covered, fell = before(family, old_truths or gaps)
            old.append(covered)
            old_apart.append(fell)
    same, verdicts = numpy.array(equal), numpy.array(apart)
    return {
        "score": 100 * float(numpy.mean(score)),
        "difference": 100 * float(numpy.mean(cover)),
        "least": 100 * float(numpy.mean(cover, 0).min()),
        "false": 100 * float(verdicts[:, same].any(1).mean()) if same.any() else 0.0,
        "power": 100 * float(verdicts[:, ~same].mean()) if not same.all() else 0.0,
        "before": 100 * float(numpy.mean(old)) if old else float("nan"),
        "false before": 100 * float(numpy.mean(old_apart)) if old else float("nan"),
    }


def cell(
    studies: int, items: int, seeds: list[int], spreads: list[float], gap: float = 3.5, shared: float = 0.0
) -> tuple[dict[str, float], dict[str, float]]:
    """Equal ways of 80 %, and the same with the first `gap` points ahead."""
    found = []
    for ahead in (0.0, gap):
        chance = numpy.random.default_rng([items, sum(seeds), round(10 * sum(spreads)), round(10 * ahead)])
        scores = [0.8 + ahead / 100, *[0.8] * (len(seeds) - 1)]
        families = (drawn(chance, scores, spreads, items, seeds, shared) for _ in range(studies))
        gaps = [one - other for one, other in combinations(scores, 2)]
        found.append(judged(families, [not each for each in gaps], gaps))
    return found[0], found[1]
