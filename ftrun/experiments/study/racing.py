"""Learning rates in a race: which are given up at half, which a single seed cannot tell apart.

Rates run their full schedules and wait at half, since what short schedules rank is another question: a rate
that learns late wins at the end. A rate is given up where it diverged, or where it is worse than the leader
on the same validation rows and has hardly begun to learn as well; neither alone would do, for a slow rate
is worse at half and a rate too high may look well on a few rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from ftrun.data.baselines import constant_score
from ftrun.runs.run import PAUSE
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ftrun.runs.run import Run

WORSE = 0.01  # the level of the paired test
PROGRESS = 0.1  # of the leader's fall of the training loss, below which a rate has not begun to learn
LATEST = 0.25  # the share of the logged training losses whose mean is where a rate has come to
MOST_TIED = 3  # rates that get another seed


@dataclass(frozen=True)
class Curve:
    """What a run had shown when it waited."""

    train: Sequence[float]  # losses of the training batches logged up to there; NaN where not finite
    losses: Sequence[float]  # of the same validation rows for every rate

    @property
    def diverged(self) -> bool:
        """Whether the latest training loss or one of a validation row is not finite."""
        return not all(map(math.isfinite, [*self.train[-1:], *self.losses]))

    @property
    def fall(self) -> float:
        """How far the training loss has fallen since the first line, in nats."""
        known = [loss for loss in self.train if math.isfinite(loss)]  # fp16 skips the first steps
        return known[0] - fmean(known[-max(1, round(LATEST * len(known))) :])


def curve_of(run: Run) -> Curve | None:
    """The curve of a run that waited, of a finished one too; None for one that never did."""
    pause = run.read_json(PAUSE)
    if pause is None or not pause["losses"]:
        return None
    lines = [line for line in run.metrics() if line["step"] <= pause["step"] and "train_loss" in line]
    return Curve(_floats([line["train_loss"] for line in lines]), _floats(pause["losses"]))


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def given_up(curves: Mapping[float, Curve]) -> set[float]:
    """The rates that are not worth the second half of their steps; never the leader, never all.

    The leader has the lowest mean loss on the validation rows.
    """
    whole = {rate: curve for rate, curve in curves.items() if not curve.diverged}
    if not whole:
        return set()
    leader = min(whole.values(), key=lambda curve: fmean(curve.losses))
    behind = {
        rate
        for rate, curve in whole.items()
        if leader.fall > 0
        and curve.fall < PROGRESS * leader.fall
        and worse(curve.losses, leader.losses) < WORSE
    }
    return behind | ({*curves} - {*whole})


def worse(losses: Sequence[float], than: Sequence[float]) -> float:
    """The two-sided p of Student's paired t test where the mean loss is higher, else 1."""
    from scipy.special import stdtr

    differences = [one - other for one, other in zip(losses, than, strict=True)]
    count, mean = len(differences), fmean(differences)
    if mean <= 0 or count < 2:
        return 1.0
    spread = math.sqrt(sum((each - mean) ** 2 for each in differences) / (count - 1) / count)
    return 2 * float(stdtr(count - 1, -mean / spread)) if spread else 0.0


def tied(scores: Mapping[float, float], metric: str, rows: int, late: bool) -> list[float]:
    """The rates among which one seed cannot choose, the best first; one rate where it can.

    Scores that are shares of `rows` are tied within one standard error of a difference of two,
    sqrt(2 p (1 - p) / rows). Where the best one came `late`, the next one is in doubt as well: on another
    seed the best may come too late.
    """
    order = sorted(scores, key=lambda rate: -lookup(metric).sign * scores[rate])
    best = scores[order[0]]
    noise = math.sqrt(2 * max(best * (1 - best), 0.0) / max(rows, 1)) if lookup(metric).is_share else 0.0
    near = [rate for rate in order if abs(scores[rate] - best) <= noise]
    if late and len(near) == 1:
        near = order[:2]
    return near[:MOST_TIED]


def came_late(run: Run) -> bool:
    """Whether a finished run had less than half of its gain on validation at half of its steps.

    The gain is that of its best score over a constant answer's or, where there is none, its first score.
    """
    name = run.result("metric")["metric"]
    result = run.result(name)
    sign = lookup(name).sign
    points = [(line["step"], line[name]) for line in run.metrics() if line.get(name) is not None]
    if len(points) < 2:
        return False
    card = run.read_json("data.json") or {}
    constant, _ = constant_score(card.get("baselines", {}), name)
    start = points[0][1] if constant is None else constant
    gain = sign * (result[name] - start)
    early = [sign * (score - start) for step, score in points if 2 * step <= points[-1][0]]
    return gain > 0 and bool(early) and max(early) < gain / 2
