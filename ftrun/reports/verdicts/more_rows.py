"""What more training rows are expected to bring, and whether a run has anything to say of which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftrun.data.baselines import MAJORITY
from ftrun.errors import UserError, counted
from ftrun.reports.answers import Shelf
from ftrun.reports.comparison import APART
from ftrun.reports.groups import open_run
from ftrun.reports.naming import flat
from ftrun.reports.numbers import between, score
from ftrun.reports.statistics.intervals import scored_lines
from ftrun.reports.statistics.seeds import Runs
from ftrun.reports.statistics.significance import difference, quantile
from ftrun.reports.summary import row_of
from ftrun.runs.artifacts import BASELINES
from ftrun.runs.content import answers_of
from ftrun.runs.find import find_runs
from ftrun.runs.run import PREDICTIONS, RESULT, Run, is_run
from ftrun.tasks.metrics.metric import lookup

NEAR = 4  # times fewer or more rows than the run has: there a curve counts as straight over the logarithm
ROWS = ("task.subset", "task.train", "task.name")  # what decides how many training rows there are
LEAST = 3  # runs that a straight line with an interval needs


@dataclass
class Growth:
    """What more rows add to the score, positive where it becomes better, with its 95 % interval."""

    gain: float
    low: float
    high: float
    runs: int
    fewest: int  # training rows of these runs
    most: int


def no_better_than_majority(run: Run) -> str:
    """The evidence that the test answers are no better than the most frequent label; empty where they are.

    Both answer the same rows; the interval of the difference is that of a comparison. Empty, too, where
    the data card has no baselines.
    """
    result = run.read_json(RESULT) or {}
    metric = str(result.get("metric") or "").removeprefix("eval_")
    places = run.path / PREDICTIONS, run.path / BASELINES
    if not metric or not all(place.is_file() for place in places):
        return ""
    mine, theirs = answers_of(places[0]), answers_of(places[1], (MAJORITY,))
    if not all(MAJORITY in line for line in theirs) or len(mine) != len(theirs):
        return ""
    both = [
        scored_lines(metric, mine),
        scored_lines(metric, [{"label": each["label"], **each[MAJORITY]} for each in theirs]),
    ]
    if both[0] is None or both[1] is None:
        return ""
    own, other = (Runs([0], _array([each.score]), each.left_out[:, None]) for each in both if each)
    found, sign = difference(own, other), lookup(metric).sign
    if min(sign * found.low, sign * found.high) > 0:
        return ""
    return (
        f"test {metric} {score(both[0].score, metric)} is no better than the {score(both[1].score, metric)}"
        f" of the most frequent label (difference {between(found.low, found.high, metric)})"
    )


def _array(values: list[float]) -> Any:
    import numpy

    return numpy.array(values)


def expected(run: Run, more: int, folders: list[str]) -> str:
    """What so many more rows, drawn at random, are expected to bring, in a sentence that says by which runs.

    The runs are those in the directories named, else beside this one.
    """
    where = ", ".join(folders) or str(run.path.absolute().parent)
    metric, curve = curve_of(run, folders)
    found = growth(curve, curve[0][0], more) if curve else None
    if found is None:
        return (
            f"no learning curve says what {counted(more, 'more row')} would bring: it takes {LEAST} runs of"
            f" these settings, on two or more numbers of rows and the same test rows; {where} has"
            f" {len(curve) or 'none'} (to make some: ftrun -m … task.subset=25,50,100 seed=0,1,2)"
        )
    factor, unit = lookup(metric).factor, " points" if lookup(metric).is_share else ""
    gain, low, high = (f"{factor * value:+.3g}" for value in (found.gain, found.low, found.high))
    sure = "" if found.low > 0 else "; it may be nothing"
    return (
        f"{counted(more, 'more row')} drawn at random are expected to bring {gain}{unit} of {metric}, 95 %"
        f" interval {low} to {high}{sure}: a straight line over the logarithm of the rows, through"
        f" {found.runs} runs on {found.fewest:,} to {found.most:,} rows in {where}"
    )


def growth(curve: list[tuple[int, float]], rows: int, more: int) -> Growth | None:
    """From the (rows, score) of single runs near `rows`; None where they are too few.

    Over a small range of rows the power law of learning curves (Hestness et al. 2017) is nearly straight in
    the logarithm of the rows: least squares, with the interval of the slope by Student's t.
    """
    near = [(count, value) for count, value in curve if rows / NEAR <= count <= rows * NEAR]
    if len(near) < LEAST or len({count for count, _ in near}) < 2:
        return None
    from scipy.stats import linregress

    line = linregress([math.log(count) for count, _ in near], [value for _, value in near])
    far, reach = math.log((rows + more) / rows), quantile(len(near) - 2) * line.stderr
    gain = line.slope * far
    counts = [count for count, _ in near]
    return Growth(gain, gain - reach * far, gain + reach * far, len(near), min(counts), max(counts))


def curve_of(run: Run, folders: list[str]) -> tuple[str, list[tuple[int, float]]]:
    """The metric, and (training rows, score) of this run, first, and of those like it on the same test rows.

    Like it are finished runs whose settings are the same but for the seed and what decides how many training
    rows there are. Of a metric of which less is better the scores are negative.
    """
    found: list[tuple[int, float]] = []
    key: Any = None
    shelf = Shelf()
    for place in dict.fromkeys([run.path.resolve(), *places_of(run, folders)]):
        try:
            other = Run.open(place)
            if not other.finished or settings_of(other) != settings_of(run):
                continue
            row = row_of(other)
            own, tried = open_run(row, shelf)
        except UserError:  # no run of the curve; other commands say what is wrong with it
            continue
        key = key or own
        if own == key and row["train_rows"] is not None:
            found.append((row["train_rows"], lookup(row["metric"]).sign * tried.score))
    return (key[1] if key else ""), found


def places_of(run: Run, folders: list[str]) -> list[Path]:
    """The runs in these directories, else those beside this one."""
    if folders:
        return [place.resolve() for place in find_runs(folders)]
    beside = run.path.resolve().parent
    return [place for place in sorted(beside.iterdir()) if place.is_dir() and is_run(place)]


def settings_of(run: Run) -> dict[str, Any]:
    """What two runs of a learning curve have in common, as it was asked for."""
    return {name: value for name, value in flat(run.asked).items() if name not in (*APART, *ROWS)}
