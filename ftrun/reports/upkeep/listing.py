"""What runs there are, how far they are, and what they take on the disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import UserError
from ftrun.reports.numbers import score, size
from ftrun.reports.pages.terminal import STYLES
from ftrun.reports.summary import row_of
from ftrun.runs.find import some_runs
from ftrun.runs.publish import METRICS, RESULT
from ftrun.runs.run import Run
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from rich.table import Table

AGES = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (float("inf"), 86_400, "d"))


@dataclass(frozen=True)
class Listed:
    """One run; of a damaged one only where it is, its size and what is wrong with it."""

    path: str
    state: str
    changed: float  # seconds since the epoch, of the last number written
    bytes: int  # on the disk
    what: str  # strategy, task, model and seed; or what is wrong
    step: int | None = None
    metric: str | None = None
    test_score: float | None = None
    eval_score: float | None = None

    def score(self) -> str:
        """That of the test rows; while there is none, that of the validation rows, which is said."""
        if self.test_score is not None or self.eval_score is None:
            return score(self.test_score, self.metric)
        return f"{score(self.eval_score, self.metric)} (validation)"


def listed(directories: Sequence[str]) -> list[Listed]:
    """Every run below the directories, the latest first; ConfigError where there is none."""
    return sorted(map(looked_at, some_runs(directories)), key=lambda one: -one.changed)


def looked_at(path: Path) -> Listed:
    """What a look at one run directory tells."""
    changed = max(times([path / METRICS, path / RESULT]), default=0.0)
    try:
        row = row_of(Run.open(path))
    except UserError as error:
        return Listed(str(path), "damaged", changed, bytes_of([path]), str(error))
    what = f"{row['strategy']} · {row['task']} · {row['model']} · seed {row['seed']}"
    if row["state"] == "failed":
        what += f": {row['failure']}"
    kept = {name: row[name] for name in ("state", "step", "metric", "test_score", "eval_score")}
    return Listed(str(path), changed=changed, bytes=bytes_of([path]), what=what, **kept)


def times(files: Iterable[Path]) -> list[float]:
    """When the files that there are were written."""
    found = []
    for file in files:
        try:
            found.append(file.stat().st_mtime)
        except OSError:  # it is not there, or not any more
            continue
    return found


def bytes_of(places: Iterable[Path]) -> int:
    """Bytes that files and directories take on the disk, a file of several names once."""
    found: dict[tuple[int, int], int] = {}
    for place in places:
        below = (os.path.join(top, name) for top, _, names in os.walk(place) for name in names)
        for name in [str(place)] if place.is_file() else below:
            try:
                status = os.lstat(name)
            except OSError:  # a run that goes on has removed it
                continue
            blocks = getattr(status, "st_blocks", None)  # Windows has none
            found[status.st_dev, status.st_ino or hash(name)] = (
                status.st_size if blocks is None else 512 * blocks
            )
    return sum(found.values())


def age(seconds: float) -> str:
    """90 s, 5 min, 3 h, 12 d."""
    unit, name = next((unit, name) for most, unit, name in AGES if seconds < most)
    return f"{max(0, round(seconds / unit))} {name}"


def chosen(runs: list[Listed], states: Sequence[str], order: str) -> list[Listed]:
    """Those in one of the states, if any are named, ordered by age, score, size or run."""
    kept = [run for run in runs if not states or run.state in states]
    if order == "score":
        return sorted(kept, key=better_first)
    if order == "size":
        return sorted(kept, key=lambda run: -run.bytes)
    return sorted(kept, key=lambda run: run.path) if order == "run" else kept


def better_first(run: Listed) -> tuple[bool, str, float]:
    """By metric, then from the best score to the worst; without a score last."""
    value = run.eval_score if run.test_score is None else run.test_score
    if value is None or run.metric is None:
        return (True, "", 0.0)
    return (False, run.metric, -lookup(run.metric).sign * value)


def as_table(runs: list[Listed]) -> Table:
    """A line a run: the terminal's width decides how names are folded."""
    from rich.table import Table
    from rich.text import Text

    table, now = Table(box=None, pad_edge=False, header_style="bold"), time.time()
    table.add_column("run", overflow="fold")
    for title in ("state", "age", "score", "metric", "size"):
        left = title in ("state", "metric")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for run in runs:
        state = Text(run.state, style=STYLES[run.state])
        when, metric = age(now - run.changed), run.metric if run.score() else ""
        table.add_row(run.path, state, when, run.score(), metric, size(run.bytes), run.what)
    return table


def as_json(run: Listed) -> dict[str, Any]:
    """Raw numbers, one object a run."""
    return vars(run)
