"""What a study asks of its runs: `asked` has all that begin, continue or end within do it.

One that is to wait stops at half, saved, for `resume` to go on. Full schedules that are interrupted can be
compared half way and lose nothing, where short ones end with another rate (successive halving, Jamieson and
Talwalkar 2016, compares the latter).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ftrun.errors import Paused
from ftrun.runs.run import PAUSE
from ftrun.training.evaluate import row_losses

if TYPE_CHECKING:
    from ftrun.settings.schedules import Length
    from ftrun.tasks.data import TaskData
    from ftrun.training.step import Step

COMPARED = 256  # validation rows, at most, whose losses are kept
# to raise Paused at the evaluation nearest half of their steps
PAUSE_AT_HALF = ContextVar("pause_at_half", default=False)
# to choose a setting: neither test rows nor a saved model are asked of them
VALIDATION_ALONE = ContextVar("validation_alone", default=False)
WISHES = (PAUSE_AT_HALF, VALIDATION_ALONE)


@contextmanager
def asked(*what: ContextVar[bool]) -> Iterator[None]:
    """Runs that begin, continue or end within know what is asked of them."""
    before = [(each, each.set(True)) for each in what]
    try:
        yield
    finally:
        for each, token in before:
            each.reset(token)


def pause_of(length: Length) -> int | None:
    """The optimizer step at which a run waits.

    None where none is asked to, and for one without an evaluation before its last step."""
    if not PAUSE_AT_HALF.get():
        return None
    places = range(length.eval_every, length.total, length.eval_every)
    return min(places, key=lambda step: abs(2 * step - length.total), default=None)


def wait_at(pause: int | None, step: Step, data: TaskData) -> None:
    """Where a run that goes on is to wait: keep the validation rows' losses and raise Paused.

    The state has been saved.
    """
    if step.state.step != pause or step.state.stopped:
        return
    losses = row_losses(step.model, data, data.dataset("validation"), COMPARED)
    now, total = step.state.step, step.length.total
    if step.accelerator.is_main_process:
        step.run_directory.write_json(PAUSE, {"step": now, "of": total, "losses": losses})
    raise Paused(f"waiting at step {now} of {total}")
