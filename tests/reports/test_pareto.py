"""Dominance among studies: no worse in anything, and better in something by more than noise."""

import math
from types import SimpleNamespace

import pytest

from ftrun.reports.statistics.pareto import COUNTED, SAME_BYTES, _cheaper, dominating

COSTS = dict.fromkeys(COUNTED, 1.0)


@pytest.mark.parametrize(
    "mine, theirs, key, expected",
    [
        (1, 2, "trained_parameters", 1),
        (2, 1, "trained_parameters", -1),
        (2, 2, "trained_parameters", 0),
        (math.nan, 2, "trained_parameters", 0),
        (2, math.nan, "trained_parameters", 0),
        (0.1, 0.11, "forgetting", 1),  # a score has no slack
        (90.0, 100.0, "seconds", 0),  # a tenth of the larger one
        (100.0, 90.0, "seconds", 0),
        (89.0, 100.0, "seconds", 1),
        (100.0, 89.0, "seconds", -1),
        (1.0, 1.0 + SAME_BYTES, "memory_bytes", 0),  # pages, whatever the share
        (1.0, 2.0 + SAME_BYTES, "memory_bytes", 1),
        (95 * SAME_BYTES, 100 * SAME_BYTES, "memory_bytes", 0),  # of much memory a tenth
        (89 * SAME_BYTES, 100 * SAME_BYTES, "memory_bytes", 1),
    ],
)
def test_what_costs_less_costs_less_by_more_than_noise(mine, theirs, key, expected):
    assert SAME_BYTES == 32 * 2**20
    assert _cheaper(mine, theirs, key) == expected


def study(name, score, subset=None, **facts):
    config = {"task": {"subset": subset}}
    return SimpleNamespace(name=name, config=config, score=SimpleNamespace(value=score), facts=COSTS | facts)


def group(*ways, sign=1, apart=()):
    pairs = [SimpleNamespace(first=one, second=other, apart=True) for one, other in apart]
    return SimpleNamespace(ways=list(ways), sign=sign, pairs=pairs)


def dominated_by(way, found):
    return dominating(found)[found.ways.index(way)]


def test_the_better_one_dominates_where_the_difference_is_clear_or_it_is_cheaper():
    low, high = study("low", 0.7), study("high", 0.8)
    assert dominated_by(low, group(low, high)) is None  # a pair that was not tested
    for pair in ((low, high), (high, low)):
        assert dominated_by(low, group(low, high, apart=[pair])) == "high"
        assert dominated_by(high, group(low, high, apart=[pair])) is None
        assert dominated_by(high, group(low, high, sign=-1, apart=[pair])) == "low"  # less is better
    unclear = SimpleNamespace(ways=[low, high], sign=1, pairs=[
        SimpleNamespace(first=low, second=high, apart=False)
    ])  # fmt: skip
    assert dominated_by(low, unclear) is None
    cheap = study("cheap", 0.8, trained_parameters=0.5)
    assert dominated_by(low, group(low, cheap)) == dominated_by(high, group(high, cheap)) == "cheap"
    assert dominated_by(cheap, group(cheap, high)) is None
    even = study("even", 0.8)
    assert dominated_by(even, group(even, high, apart=[(even, high)])) is None  # equal in everything


def test_one_higher_cost_is_enough_not_to_dominate():
    low = study("low", 0.7)
    for key in COUNTED:
        dear = study("dear", 0.8, **{key: 2.0 * SAME_BYTES})
        assert dominated_by(low, group(low, dear, apart=[(low, dear)])) is None
    mixed = study("mixed", 0.7, trained_parameters=0.5, seconds=2.0)
    assert dominated_by(low, group(low, mixed)) is None


def test_only_ways_with_as_many_labels_are_compared():
    low, other = study("low", 0.7, 50), study("other", 0.9, 800)
    high = study("high", 0.8, 50)
    assert dominated_by(low, group(low, other, apart=[(low, other)])) is None
    found = group(low, other, high, apart=[(low, other), (low, high)])
    assert dominated_by(low, found) == "high"
