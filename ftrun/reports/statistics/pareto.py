"""Pareto dominance among studies: score against weights, time, memory and forgetting."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftrun.reports.study import Group, Study

COUNTED = ("trained_parameters", "seconds", "memory_bytes", "forgetting")
SAME_COST = 0.1  # times and memory within a tenth of each other are equal
SAME_BYTES = 32 * 1024**2  # so is memory within this: a heap has holes, and pages of 2 MB


def dominated_by(study: Study, group: Group) -> str | None:
    """The name of a study that is no worse in score and costs, and in one of them better beyond noise."""
    apart = {id(pair.second): pair.apart for pair in group.pairs if pair.first is study}
    apart |= {id(pair.first): pair.apart for pair in group.pairs if pair.second is study}
    subset = study.config["task"].get("subset")
    for other in group.ways:
        if other is study or other.config["task"].get("subset") != subset:
            continue
        clear = apart.get(id(other), False)  # a pair that was not tested is no clear win
        wins = clear and group.sign * (other.score.value - study.score.value) > 0
        if group.sign * (other.score.value - study.score.value) < 0:
            continue
        costs = [_cheaper(other.facts[key], study.facts[key], key) for key in COUNTED]
        if all(cost >= 0 for cost in costs) and (wins or any(cost > 0 for cost in costs)):
            return other.name
    return None


def _cheaper(mine: float | None, theirs: float | None, key: str) -> int:
    """1 where mine is less, -1 where it is more, 0 where both are alike or not known."""
    if mine is None or theirs is None:
        return 0
    slack = SAME_COST * max(mine, theirs) if key in ("seconds", "memory_bytes") else 0.0
    slack = max(slack, SAME_BYTES) if key == "memory_bytes" else slack
    return 0 if abs(mine - theirs) <= slack else 1 if mine < theirs else -1
