"""Pareto dominance among studies: score against weights, time, memory and forgetting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftrun.reports.study import Group

Array = Any  # numpy.ndarray

COUNTED = ("trained_parameters", "seconds", "memory_bytes", "forgetting")
SAME_COST = 0.1  # times and memory within a tenth of each other are equal
SAME_BYTES = 32 * 1024**2  # so is memory within this: a heap has holes, and pages of 2 MB


def dominating(group: Group) -> list[str | None]:
    """Of each way the name of one that is no worse in score and costs, and in one better beyond noise."""
    import numpy

    ways, subsets = group.ways, dict[str, int]()
    scores = numpy.array([group.sign * study.score.value for study in ways])
    alike = numpy.array(
        [subsets.setdefault(repr(study.config["task"].get("subset")), len(subsets)) for study in ways]
    )
    costs = {key: numpy.array([_number(study.facts[key]) for study in ways]) for key in COUNTED}
    apart = _told_apart(group)
    return [
        None if other is None else ways[other].name
        for other in (_first(place, scores, alike, costs, apart.get(place, [])) for place in range(len(ways)))
    ]


def _first(place: int, scores: Array, alike: Array, costs: dict[str, Array], apart: list[int]) -> int | None:
    """The first way that dominates the one at this place; a pair that was not tested is no clear win."""
    import numpy

    others = numpy.flatnonzero((alike == alike[place]) & ~(scores < scores[place]))
    others = others[others != place]
    wins = numpy.isin(others, apart) & (scores[others] > scores[place])
    for key, values in costs.items():
        cheaper = _cheaper(values[others], values[place], key)
        others, wins = others[cheaper >= 0], (wins | (cheaper > 0))[cheaper >= 0]
    found = others[wins]
    return int(found[0]) if len(found) else None


def _told_apart(group: Group) -> dict[int, list[int]]:
    """The places of the ways that a test tells from the one at each place."""
    places = {id(study): place for place, study in enumerate(group.ways)}
    found: dict[int, list[int]] = {}
    for pair in group.pairs:
        one, other = (places.get(id(study)) for study in (pair.first, pair.second))
        if pair.apart and one is not None and other is not None:
            found.setdefault(one, []).append(other)
            found.setdefault(other, []).append(one)
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _cheaper(mine: Array, theirs: Array, key: str) -> Array:
    """1 where mine is less, -1 where it is more, 0 where both are alike or one is not known, which is nan."""
    import numpy

    slack = SAME_COST * numpy.maximum(mine, theirs) if key in ("seconds", "memory_bytes") else 0.0
    slack = numpy.maximum(slack, SAME_BYTES) if key == "memory_bytes" else slack
    apart = abs(mine - theirs) > slack
    return numpy.where(apart, numpy.where(mine < theirs, 1, -1), 0)
