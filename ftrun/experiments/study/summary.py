"""The cost of runs in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports.numbers import roughly, size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ftrun.experiments.planning import Way
    from ftrun.experiments.study.cost import Cost


def line_of(cost: Cost, way: Way, ready: float) -> str:
    """A run alone: its time and what takes it, its memory and its disk; imports take `ready` seconds."""
    begin = ready + way.data.seconds + cost.start
    end = cost.features + cost.end
    parts = [f"{roughly(begin)} until training begins"]
    if way.length is None:
        parts.append(f"solving {roughly(cost.train)}")
    else:
        parts.append(f"{counted(way.steps, 'step')} {roughly(cost.train)}")
        parts.append(f"{counted(way.length.evaluations, 'evaluation')} {roughly(cost.evaluate)}")
    parts.append(f"closing scores {roughly(end)}")
    time = roughly(begin + cost.train + cost.evaluate + end)
    memory = f"; memory {size(cost.memory)}" if cost.memory is not None else ""
    return f"about {time} a run ({', '.join(parts)}){memory}; disk {size(cost.disk)}"


def total_of(
    costs: Mapping[str, Cost], runs: Mapping[str, int], once: float, trials: Mapping[str, int] | None = None
) -> str:
    """So many runs of each way in one process, which takes `once` seconds before the first.

    `trials` of them are scored on validation alone.
    """
    begin = once + max(cost.features for cost in costs.values())
    time = begin + sum(costs[name].seconds * count for name, count in runs.items())
    time -= sum(costs[name].end * count for name, count in (trials or {}).items())
    disk = sum(costs[name].disk * count for name, count in runs.items())
    return f"about {roughly(time)}, disk {size(disk)}"
