"""The memory that runs will need, as `ftrun plan` tells it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings

BARE = (
    "{} has no weights: no rows are read and nothing is timed, the longest row is the task's longest, and"
    " whether its tensors have these shapes is not known"
)


def bytes_of(text: str) -> int:
    """The bytes of a size in words, such as 24GB, 24 GiB or 512MB; ConfigError for anything else."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([kmgt])(i?)b?", text.strip().lower())
    if match is None or not float(match[1]):
        raise ConfigError(f"plan: --memory {text!r} is no size; possible: 24GB, 512MB, 80GiB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " kmgt".index(match[2]))


def tell_memory(ways: Sequence[tuple[str, Settings, int | None]], limit: int | None) -> set[str]:
    """Print the memory of a process of each way, with its longest row; returns those that do not fit.

    Of each: plain, in shards, and where it does not fit, what would.
    """
    from ftrun.experiments.study.changes import that_fit
    from ftrun.experiments.study.fitting import PAIR, need_of, processes_here, room, sizes_of
    from ftrun.reports.numbers import size

    print("memory of a process, at most, by a step without numbers")
    lines: list[str] = []
    large: set[str] = set()
    for name, settings, length in ways:
        sizes = sizes_of(settings, length)
        need = need_of(settings, sizes, processes_here())
        parts = f"weights {size(need.weights)}, moments {size(need.moments)}, a step {size(need.work)}"
        held = f", held {size(need.held)}" if need.held else ""
        counts = sorted({PAIR, processes_here()} - {1})
        shards = {count: need_of(settings, sizes, count, shard=True).peak for count in counts}
        shared = ", ".join(f"{size(peak)} in each of {count}" for count, peak in shards.items())
        lines.append(f"{name}: {size(need.peak)} ({parts}{held}); train.shard=true {shared}")
        if sizes.unknown:
            lines.append(f"{name}: without activations, which are not known ({sizes.unknown})")
        most = limit if limit is not None else room(settings)
        if most is not None and need.peak > most:
            large.add(name)
            found = [
                f"{change.words} does ({size(change.peak)})" for change in that_fit(settings, length, most)
            ]
            lines.append(f"{name}: does not fit in {size(most)}: {'; or '.join(found) or 'no setting does'}")
    for line in lines:
        print(f"  {line}", flush=True)
    return large
