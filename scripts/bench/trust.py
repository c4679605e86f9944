"""Are the report's statistics true? Studies of known truth through the functions that the report calls.

    python scripts/bench/trust.py                       # every table; about 8 minutes on one core
    python scripts/bench/trust.py --studies 300 --tables seeds unequal

A study is items × ways × seeds of right and wrong answers. An answer is right with chance expit(way + item +
way × item + seed): the item's difficulty, shared by the ways, is normal with standard deviation 3, the
way's own with an item 1.2, and the seed's is set so that a run's accuracy has the wanted standard deviation.
The rest, seed × item, is the draw of the answer. Truth is the integral over items and seeds. Two single runs of equal
ways of 80 % then answer about 18 % of the items differently, two seeds of one way 15 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy
from scipy.optimize import brentq
from scipy.special import expit, ndtr, stdtrit

from ftrun.reports.power import items_needed, smallest_difference
from ftrun.reports.seeds import Runs
from ftrun.reports.significance import estimate
from ftrun.reports.study import Pair, Study, tested

Array = Any
ITEM, OWN = 3.7, 1.2  # on the logit scale
NODES, WEIGHTS = numpy.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def accuracy(way: float, spread: float) -> float:
    """The truth of a way, whose items and seeds have this standard deviation together."""
    return float(WEIGHTS @ expit(way + spread * NODES))


def way_of(score: float, points: float) -> tuple[float, float]:
    """The way's and the seed's effect on the logit scale for a true accuracy and its spread over seeds."""
    still = float(numpy.hypot(ITEM, OWN))
    middle = brentq(lambda way: accuracy(way, still) - score, -30, 30)
    chance = expit(middle + still * NODES)
    seed = points / 100 / float(WEIGHTS @ (chance * (1 - chance)))
    spread = float(numpy.hypot(still, seed))
    return brentq(lambda way: accuracy(way, spread) - score, -30, 30), seed


def runs_of(hits: Array, folds: Array | None = None) -> Runs:
    """The runs of one way from its answers, (seeds, items), right or wrong."""
    items, observed = hits.shape[1], hits.mean(1)
    left_out = (hits.sum(1)[:, None] - hits) / (items - 1)
    return Runs([*range(len(hits))], observed, left_out.T, folds)


def study_of(runs: Runs, family: list[Runs]) -> Study:
    """As the report has it, without files."""
    return Study("", [], runs, estimate(runs, family, share=True), {})


def drawn(
    chance: Any, scores: list[float], spreads: list[float], items: int, seeds: list[int], shared: float
) -> list[Runs]:
    """One study: the runs of each way on the same items; `shared` correlates the runs of one seed."""
    ease, most, found = chance.normal(0, ITEM, items), max(seeds), []
    common, luck = chance.normal(size=(most, 1)), chance.normal(size=(most, items)) if shared else 0.0
    for score, points, count in zip(scores, spreads, seeds, strict=True):
        way, seed = CACHE.setdefault((score, points), way_of(score, points))
        own = way + ease + chance.normal(0, OWN, items)
        mine = shared**0.5 * common[:count] + (1 - shared) ** 0.5 * chance.normal(size=(count, 1))
        if shared:
            draw = ndtr(shared**0.5 * luck[:count] + (1 - shared) ** 0.5 * chance.normal(size=(count, items)))
        else:
            draw = chance.random((count, items))
        found.append(runs_of(draw < expit(own + seed * mine)))
    return found


CACHE: dict[tuple[float, float], tuple[float, float]] = {}


def pairs_of(family: list[Runs]) -> list[Pair]:
    """All pairs, tested as the report does."""
    return tested([*combinations([study_of(runs, family) for runs in family], 2)])


def before(first: Runs, second: Runs, truth: float) -> bool:
    """Whether the sum of both errors with a paired t over seeds, as it was before, covers the truth."""
    apart = first.observed - second.observed
    effect = first.influence.mean(1) - second.influence.mean(1)
    items, count = float((effect**2).mean()) / len(effect), len(apart)
    seeds = float(apart.var(ddof=1)) / count if count > 1 else 0.0
    freedom = (count - 1) * ((items + seeds) / seeds) ** 2 if seeds else 1e9
    return abs(apart.mean() - truth) <= stdtrit(min(freedom, 1e9), 0.975) * (items + seeds) ** 0.5


def cell(
    studies: int,
    items: int,
    seeds: list[int],
    spreads: list[float],
    gap: float,
    base: float,
    number: int,
    shared: float = 0.0,
) -> dict[str, float]:
    """Shares in percent: coverage of scores and differences, false and true verdicts of the family.

    False verdicts are of equal ways; then the first way is `gap` points ahead.
    """
    chance = numpy.random.default_rng([number, items])
    ways, tally = len(spreads), {}
    for name, scores in (
        ("equal", [base] * ways),
        ("ahead", [base + gap / 100, *[base] * (ways - 1)]),
    ):
        truths = [one - other for one, other in combinations(scores, 2)]
        covered = numpy.zeros((studies, len(truths)))
        old, own, found = numpy.zeros_like(covered), numpy.zeros((studies, ways)), numpy.zeros_like(covered)
        for place in range(studies):
            family = drawn(chance, scores, spreads, items, seeds, shared)
            pairs = pairs_of(family)
            covered[place] = [
                pair.found.low <= truth <= pair.found.high for pair, truth in zip(pairs, truths, strict=True)
            ]
            found[place] = [pair.apart and pair.found.value * max(gap, 1) > 0 or pair.apart for pair in pairs]
            if len({*seeds}) == 1:
                old[place] = [
                    before(one, other, truth)
                    for (one, other), truth in zip(combinations(family, 2), truths, strict=True)
                ]
            studies_of = [study_of(runs, family) for runs in family]
            own[place] = [
                study.score.low <= score <= study.score.high
                for study, score in zip(studies_of, scores, strict=True)
            ]
        if name == "equal":
            tally["score"] = 100 * own.mean()
            tally["before"] = 100 * old.mean()
            tally["difference"], tally["worst"] = 100 * covered.mean(), 100 * covered.mean(0).min()
            tally["false"] = 100 * found.any(1).mean()
        else:
            real = [truth != 0 for truth in truths]
            tally["ahead"], tally["power"] = 100 * covered.mean(), 100 * found[:, real].mean()
    return tally


def table(rows: list[list[str]], titles: list[str]) -> None:
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)
