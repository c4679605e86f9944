"""A signal ends a run after the current step, of several processes soon after the one that received it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.training.devices import largest

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.training.state import State

ASKED_EVERY = 16  # steps, or as many as take a second if those are fewer


class Agreement:
    """What any of the processes of a run knows; they exchange it now and then, since each waits for all."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.next = 0  # the step from which on they ask again, the same for all

    def due(self, step: int) -> bool:
        return step >= self.next

    def signal(self, signals: list[int], state: State) -> int:
        """The signal that any process received, or 0; all processes call this after the same step."""
        mine = signals[0] if signals else 0
        if self.accelerator.num_processes == 1:
            return mine
        per_step = state.cost["train_seconds"] / max(1, state.step)
        signum, seconds = largest(self.accelerator, mine, per_step)
        self.next = state.step + max(1, min(ASKED_EVERY, int(1 / max(seconds, 1e-9))))
        return int(signum)
