"""Where a run stands and how long it is: plain numbers, no tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftrun.settings.checks import steps_of

if TYPE_CHECKING:
    from ftrun.settings.schema import Train

COSTS = ("seconds", "cpu_seconds", "train_seconds", "train_cpu_seconds", "tokens", "padded_tokens")
LOG_POINTS = 50  # lines of training metrics per run, at most one per step


@dataclass
class State:
    """All that changes during training besides tensors; together they are a checkpoint."""

    step: int = 0  # batches gone through
    updates: int = 0  # optimizer steps taken; behind `step` only where a non-finite gradient skipped one
    epoch: int = 0
    position: int = 0  # batches of this epoch gone through
    micro_batch: int = 0
    loss_sum: float = 0.0  # since the last line of metrics
    loss_count: float = 0.0  # targets in loss_sum, or their weights
    parts: dict[str, list[float]] = field(default_factory=dict)  # of the loss: sum and count since that line
    bad_steps: int = 0  # in a row
    best: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # evaluations since the best
    stopped: bool = False  # early, by patience
    metrics_size: int = 0
    before: list[dict[str, float]] = field(
        default_factory=list
    )  # of each earlier task, its test scores at step 0
    cost: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0))


@dataclass
class Length:
    """How long the run is, in optimizer steps."""

    per_epoch: int
    total: int
    warmup: int
    eval_every: int
    checkpoint_every: int
    log_every: int

    @classmethod
    def of(cls, train: Train, rows: int) -> Length:
        per_epoch = math.ceil(rows / train.batch_size)
        total = train.max_steps or max(1, round(per_epoch * train.epochs))

        def steps(value: Any) -> int:
            if value == "epoch":
                return per_epoch
            return max(1, steps_of(value, total))

        warmup = min(steps_of(train.warmup, total), total)
        return cls(
            per_epoch,
            total,
            warmup,
            steps(train.eval_every),
            steps(train.checkpoint_every),
            max(1, total // LOG_POINTS),
        )


@dataclass
class Course:
    """How the learning rate passes through a run; what a strategy plans its stages by."""

    lr: float
    schedule: Any
    length: Length
    depth: int  # layers of the network; its stages are 0 to depth + 1

    def rate(self, step: int) -> float:
        """The rate of everything at an optimizer step, counted from 0."""
        return self.lr * self.schedule.factor(step, self.length.total, self.length.warmup)


def better(scores: dict[str, float], best: dict[str, float], metric: str, direction: str) -> bool:
    """Whether scores beat the best: by the metric in its direction, at a tie by the loss; NaN never."""
    if math.isnan(scores[metric]):
        return False
    if not best:
        return True
    sign = 1 if direction == "max" else -1
    new, old = (sign * scores[metric], -scores["loss"]), (sign * best[metric], -best["loss"])
    return new > old
