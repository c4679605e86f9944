"""A step that was launched and is not read yet, and the end of a run whose steps are not finite."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ftrun.errors import Diverged
from ftrun.training.late import Numbers


@dataclass
class Pending:
    """A step that was launched: which one, over which examples, at which rate, and what it comes to."""

    step: int
    rows: list[int]
    rate: float  # of the head
    parts: list[str]  # of the loss
    numbers: Numbers  # gradient norm, loss and count of targets, then sum and count of each part

    @property
    def finite(self) -> bool:
        """Waits for the device."""
        return all(math.isfinite(number) for number in self.numbers.read()[:2])


def divergence(latest: Pending, loss: float, norm: float, bad_steps: int, lr: float) -> Diverged:
    """What ends the run, of whose latest step loss and norm of the gradient are known."""
    return Diverged(
        f"loss {loss} and gradient norm {norm} at step {latest.step}, {bad_steps} steps in a row;"
        f" see divergence.json; possible: a lower train.lr (now {lr:g}), a longer train.warmup,"
        " train.precision=fp32"
    )
