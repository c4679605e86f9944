"""What time is spent on: wall and CPU seconds of the phases of a run, from the start of the process on.

Every second belongs to one phase of one run: a phase pauses while another is open inside it, and a run while
another is trained inside it. What passes between runs is the `compose` of the next one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftrun.runs.run import Run

# compose: Python's start, imports and settings; load: the network, its sources and what no other phase is;
# train: steps, checkpoints and what a strategy keeps of earlier tasks; export: the saved model and its check
PHASES = ("compose", "data", "load", "preflight", "train", "evaluate", "export", "report")

Spent = dict[str, tuple[float, float]]  # phase → wall seconds, CPU seconds; not yet in timing.jsonl


def now() -> tuple[float, float]:
    """Wall and CPU seconds of this process at present."""
    return time.perf_counter(), time.process_time()


def started() -> tuple[float, float]:
    """The same when the process began; elsewhere than on Linux as late as it can have been."""
    wall, cpu = now()
    age = cpu
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])  # after boot, field 22 of proc(5)
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        pass  # not Linux
    return wall - max(age, cpu), 0.0


_mark = started()
_open: list[tuple[Spent, str]] = [({}, PHASES[0])]  # the innermost last; the first is of no run yet


def _charge() -> None:
    """Give what has passed since the last call to the innermost phase."""
    global _mark
    spent, phase = _open[-1]
    wall, cpu = spent.get(phase, (0.0, 0.0))
    at = now()
    spent[phase] = wall + at[0] - _mark[0], cpu + at[1] - _mark[1]
    _mark = at


@contextmanager
def phase(name: str) -> Iterator[None]:
    """What passes inside is of this phase of the current run; a decorator as well."""
    assert name in PHASES, name
    with _inside(_open[-1][0], name):
        yield


@contextmanager
def account() -> Iterator[None]:
    """What passes inside is of a run of its own, in no other phase of its `load`; a decorator too."""
    _charge()
    first = len(_open) == 1
    before = dict(_open[0][0]) if first else {}
    if first:
        _open[0][0].clear()
    with _inside(before, "load"):
        yield


@contextmanager
def _inside(spent: Spent, name: str) -> Iterator[None]:
    _charge()
    _open.append((spent, name))
    try:
        yield
    finally:
        _charge()
        _open.pop()


def lines() -> list[dict[str, Any]]:
    """What the current run spent since the last call, a line of timing.jsonl for each phase."""
    _charge()
    spent = _open[-1][0]
    found = [
        {"phase": name, "seconds": round(spent[name][0], 4), "cpu_seconds": round(spent[name][1], 4)}
        for name in PHASES
        if name in spent
    ]
    spent.clear()
    return found


def spent_by(run: Run) -> Spent:
    """Wall and CPU seconds of every phase that timing.jsonl has, summed over all attempts; {} of old runs."""
    found: Spent = {}
    for line in run.timing():
        if (name := line.get("phase")) is not None:
            wall, cpu = found.get(name, (0.0, 0.0))
            found[name] = wall + (line.get("seconds") or 0.0), cpu + (line.get("cpu_seconds") or 0.0)
    return found
