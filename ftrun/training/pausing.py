"""What a study asks of its runs: `asked` has all that begin, continue or end within do it.

One that is to wait stops at a rung, saved, for `resume` to go on. Full schedules that are interrupted can be
compared on the way and lose nothing, where short ones end with another rate (successive halving, Jamieson and
Talwalkar 2016, compares the latter).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import Paused
from ftrun.runs.run import PAUSE

if TYPE_CHECKING:
    from ftrun.settings.schedules import Length
    from ftrun.tasks.data import TaskData
    from ftrun.training.step import Step

COMPARED = 256  # validation rows, at most, whose losses are kept


@dataclass(frozen=True)
class Rung:
    """An evaluation after which a run waits, unless its best score so far reaches the bar.

    Plain values, so that a process elsewhere can be told of it.
    """

    at: float  # below 1: the evaluation nearest this share of all steps; from 1: its number
    bar: float | None = None  # the score that goes on, by the metric that chooses the weights; None: no score


HALFWAY = (Rung(0.5),)
RUNGS: ContextVar[tuple[Rung, ...]] = ContextVar("rungs", default=())
# to choose a setting: neither test rows nor a saved model are asked of them
VALIDATION_ALONE = ContextVar("validation_alone", default=False)


def wishes() -> dict[str, Any]:
    """What is asked of runs here and now, as `asked` takes it; plain values, for other processes."""
    return {"validation_alone": VALIDATION_ALONE.get(), "rungs": RUNGS.get()}


@contextmanager
def asked(*, validation_alone: bool = False, rungs: tuple[Rung, ...] = ()) -> Iterator[None]:
    """Runs that begin, continue or end within know what is asked of them."""
    alone, waiting = VALIDATION_ALONE.set(validation_alone), RUNGS.set(rungs)
    try:
        yield
    finally:
        RUNGS.reset(waiting)
        VALIDATION_ALONE.reset(alone)


def rungs_of(length: Length) -> dict[int, Rung]:
    """The optimizer steps at which a run may wait: evaluations before the last step, of those asked for."""
    places = range(length.eval_every, length.total, length.eval_every)
    found = {}
    for rung in RUNGS.get() if places else ():
        share = rung.at * length.total
        step = min(places, key=lambda step: abs(step - share)) if rung.at < 1 else rung.at * length.eval_every
        found[int(step)] = rung
    return {step: rung for step, rung in found.items() if step in places}


def is_to_wait(rung: Rung, best: float | None, sign: int) -> bool:
    """Whether a run with this best score so far waits at a rung; more is better where the sign is 1."""
    return rung.bar is None or best is None or math.isnan(best) or sign * best < sign * rung.bar


def wait(step: Step, data: TaskData) -> None:
    """Keep the validation rows' losses of a run whose state has been saved, and raise Paused."""
    from ftrun.training.evaluate import row_losses

    with step.average.shown():
        losses = row_losses(step.model, data, data.dataset("validation"), COMPARED)
    now, total = step.state.step, step.length.total
    if step.accelerator.is_main_process:
        step.run_directory.write_json(PAUSE, {"step": now, "of": total, "losses": losses})
    raise Paused(f"waiting at step {now} of {total}")
