"""Which trials of a search are given up on the way: the bars that a run has to reach at its evaluations.

The bars are known before a run begins, from the trials before it, so that it can be told of them wherever it
trains, and goes on without a pause where it reaches them. A trial's score at an evaluation is its best one so
far, as the best weights are what a run keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import TYPE_CHECKING

from ftrun.training.pausing import Rung

if TYPE_CHECKING:
    from collections.abc import Callable

Curve = Mapping[int, float]  # the number of an evaluation, from 1, and its score; more is better

FEWEST = 5  # whole trials before the median says anything: Optuna's default
UNJUDGED = 1 / 3  # of the evaluations, in which the median gives nothing up: who learns late is not lost
FACTOR = 3  # of successive halving: one trial in so many goes on, and trains so many times as long


def median_bars(whole: Iterable[Curve], others: Iterable[Curve] = ()) -> dict[int, float]:
    """Not below the median of the whole trials at the same evaluation (Golovin et al. 2017, Vizier)."""
    curves = [curve for curve in whole if curve]
    if len(curves) < FEWEST:
        return {}
    last = max(max(curve) for curve in curves)
    rungs = [number for number in range(1, last) if number > UNJUDGED * last]
    return {number: median(known) for number in rungs if (known := scores_at(number, curves))}


def halving_bars(whole: Iterable[Curve], others: Iterable[Curve] = ()) -> dict[int, float]:
    """Among the best third of the trials that came so far, at the first, third, ninth evaluation and so on.

    Asynchronous successive halving (Li et al. 2020, ASHA), without going back to a trial that was given up.
    """
    curves = [curve for curve in (*whole, *others) if curve]
    bars, rung = {}, 1
    while rung < max((max(curve) for curve in curves), default=0):
        known = sorted(scores_at(rung, [curve for curve in curves if max(curve) >= rung]), reverse=True)
        go_on = max((len(known) + 1) // FACTOR, 1)
        if len(known) >= go_on:
            bars[rung] = known[go_on - 1]
        rung *= FACTOR
    return bars


def scores_at(evaluation: int, curves: Iterable[Curve]) -> list[float]:
    """The best score so far of each curve that has one."""
    found = ([score for number, score in curve.items() if number <= evaluation] for curve in curves)
    return [max(scores) for scores in found if scores]


STOPS = {  # what each pruner stops
    "median": f"a trial below the median of {FEWEST} or more, from a third of its steps on",
    "asha": "a trial not among the best third so far, at its first, third, ninth … evaluation",
    "none": "no trial",
}
PRUNERS: dict[str, Callable[[Iterable[Curve], Iterable[Curve]], dict[int, float]] | None] = {
    "median": median_bars,
    "asha": halving_bars,
    "none": None,
}


def rungs_of(pruner: str, whole: Iterable[Curve], others: Iterable[Curve], sign: int) -> tuple[Rung, ...]:
    """Where the next run waits; curves of whole trials and of others given up, in scores times the sign."""
    bars = PRUNERS[pruner]
    found = {} if bars is None else bars(whole, others)
    return tuple(Rung(number, sign * bar) for number, bar in sorted(found.items()))
