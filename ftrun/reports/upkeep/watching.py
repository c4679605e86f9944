"""Runs while they train: how far each is, with the course of its loss and of its score."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import UserError, counted
from ftrun.reports.numbers import score
from ftrun.reports.pages.terminal import STYLES
from ftrun.reports.summary import row_of
from ftrun.reports.upkeep.listing import age, times
from ftrun.runs.find import find_runs
from ftrun.runs.publish import METRICS, RESULT
from ftrun.runs.run import Run

if TYPE_CHECKING:
    from rich.table import Table

BARS = {True: "▁▂▃▄▅▆▇█", False: "_.,:-=+*#"}  # of a terminal that shows them, and of any other
WIDTH = 24  # points of a curve


@dataclass
class Watched:
    """One run as it was seen last."""

    path: str
    state: str
    changed: float
    step: int | None = None
    share: float | None = None  # of all steps, as far as the settings tell
    metric: str | None = None
    score: float | None = None
    loss: list[float] = field(default_factory=list)  # of training, in the order of the steps
    scores: list[float] = field(default_factory=list)  # of the validation rows
    failure: str | None = None


class Watch:
    """Looks at the runs below some directories again and again; what has ended is read once."""

    def __init__(self, directories: Sequence[str]) -> None:
        self.directories = directories
        self._ended: dict[Path, Watched] = {}

    def look(self) -> list[Watched]:
        """Every run, those that train first, then the one that wrote last first."""
        found = [self._of(path) for path in find_runs(self.directories)]
        return sorted(found, key=lambda run: (run.state != "running", -run.changed))

    def _of(self, path: Path) -> Watched:
        changed = max(times([path / METRICS, path / RESULT]), default=0.0)
        known = self._ended.get(path)
        if known is not None and known.changed == changed:
            return known
        run = watched(path, changed)
        if run.state != "running":
            self._ended[path] = run
        return run


def watched(path: Path, changed: float) -> Watched:
    """What one run has written by now."""
    try:
        run = Run.open(path)
        row, lines = row_of(run), run.metrics()
    except UserError as error:
        return Watched(str(path), "damaged", changed, failure=str(error))
    metric = row["metric"]
    best = row["eval_score"] if row["test_score"] is None else row["test_score"]
    return Watched(
        str(path),
        row["state"],
        changed,
        max((int(line["step"]) for line in lines), default=None),
        None if row["state"] == "finished" else share(lines, run.config["train"]),
        metric,
        best,
        [line["train_loss"] for line in lines if "train_loss" in line],
        [line[f"eval_{metric}"] for line in lines if f"eval_{metric}" in line],
        row["failure"],
    )


def share(lines: list[dict[str, Any]], train: dict[str, Any]) -> float | None:
    """How much of its steps a run has taken; None where its settings do not tell how many there are."""
    latest = next((line for line in reversed(lines) if "epoch" in line), None)
    if latest is None:
        return None
    found = []
    for done, of in ((latest["step"], train.get("max_steps")), (latest["epoch"], train.get("epochs"))):
        if isinstance(of, int | float) and of > 0:
            found.append(done / of)
    return min(1.0, max(found)) if found else None


def curve(values: Sequence[float], bars: str, width: int = WIDTH) -> str:
    """The values as bars from the smallest to the largest, averaged where there are more than `width`."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    count = min(width, len(known))
    edges = [len(known) * place // count for place in range(count + 1)]
    means = [sum(known[low:high]) / (high - low) for low, high in zip(edges, edges[1:], strict=False)]
    least, most = min(means), max(means)
    if least == most:
        return bars[0] * count
    return "".join(bars[round((value - least) / (most - least) * (len(bars) - 1))] for value in means)


def as_table(runs: list[Watched], bars: str, room: int) -> Table:
    """As many runs as there is room for, in lines, and how many are left out."""
    from rich.table import Table
    from rich.text import Text

    table, now = Table(box=None, pad_edge=False, header_style="bold"), time.time()
    for title in ("run", "state", "step", "training loss", "", "score", ""):
        table.add_column(title, overflow="fold" if title == "run" else "ellipsis", no_wrap=title != "run")
    shown = runs if len(runs) <= room else runs[: max(1, room - 1)]
    for run in shown:
        step = "" if run.step is None else f"{run.step:,}"
        if run.share is not None:
            step += f" ({run.share:.0%})"
        state = run.state if run.state == "running" else f"{run.state} {age(now - run.changed)} ago"
        name = run.path if run.failure is None else f"{run.path}: {run.failure}"
        loss = f"{run.loss[-1]:.3f}" if run.loss else ""
        words = f"{run.metric} {score(run.score, run.metric)}" if run.score is not None else ""
        lines = curve(run.loss, bars), curve(run.scores, bars)
        table.add_row(name, Text(state, STYLES[run.state]), step, lines[0], loss, lines[1], words)
    if len(shown) < len(runs):
        table.add_row(f"and {counted(len(runs) - len(shown), 'run')} more", *[""] * 6)
    return table


def looks(watch: Watch, every: float) -> Iterator[list[Watched]]:
    """What there is, now and again and again."""
    while True:
        yield watch.look()
        time.sleep(every)
