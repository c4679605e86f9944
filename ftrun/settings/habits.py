"""How kinds of tasks and strategies are trained where train.lr, epochs and batch_size are `auto`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Habits:
    """How a kind of task is trained where the settings do not say.

    `steps` is the number of optimizer steps that pretrained networks need, `epochs` the fewest and the most.
    """

    order: str = "group_by_length"  # of batches; "random" where batches of similar lengths train worse
    steps: int = 300
    epochs: tuple[int, int] = (3, 60)
    random_steps: int = 1000  # with random weights
    batch: int | None = None  # None: by the number of rows


@dataclass(frozen=True)
class Pace:
    """How a strategy trains beside full fine-tuning: its rate and its number of steps, in multiples."""

    rate: float = 1.0
    steps: float = 1.0
    fixed_rate: float | None = None  # instead, whatever the network's width
