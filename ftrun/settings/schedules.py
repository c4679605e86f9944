"""Learning-rate schedules, pure functions of the optimizer step, and the length of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.settings.checks import above, at_least, steps_of
from ftrun.settings.protocols import Schedule

if TYPE_CHECKING:
    from ftrun.settings.schema import Train

LOG_POINTS = 50  # lines of training metrics per run, at most one per step


@dataclass
class Linear:
    """Linear warm-up, then linear decay to zero (the schedule of BERT, Devlin et al. 2019)."""

    def factor(self, step: int, total: int, warmup: int) -> float:
        """The factor for optimizer step `step` of `total`, counted from 0."""
        return rise(step, warmup) if step < warmup else 1 - progress(step, total, warmup)


@dataclass
class Cosine:
    """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017)."""

    def factor(self, step: int, total: int, warmup: int) -> float:
        """The factor for optimizer step `step` of `total`, counted from 0."""
        return (
            rise(step, warmup)
            if step < warmup
            else (1 + math.cos(math.pi * progress(step, total, warmup))) / 2
        )


@dataclass
class Constant:
    """Linear warm-up, then a constant rate."""

    def factor(self, step: int, total: int, warmup: int) -> float:
        """The factor for optimizer step `step` of `total`, counted from 0."""
        return rise(step, warmup) if step < warmup else 1.0


@dataclass
class SlantedTriangular:
    """A short increase and a long decay without warm-up (ULMFiT, Howard and Ruder 2018, equation 3).

    `cut` is the share of steps with an increasing rate, `ratio` the peak rate divided by the lowest.
    """

    cut: float
    ratio: float

    def __post_init__(self) -> None:
        above("schedule.cut", self.cut, 0)
        at_least("schedule.ratio", self.ratio, 1)
        if self.cut >= 1:
            raise ConfigError(f"schedule.cut is a share below 1, not {self.cut}")

    def factor(self, step: int, total: int, warmup: int) -> float:
        """The factor for optimizer step `step` of `total`, counted from 0; `warmup` is ignored."""
        peak = math.floor(total * self.cut)
        # the decay ends at step `total`; the published formula can end below zero
        share = step / peak if step < peak else 1 - progress(step, total, peak)
        return (1 + share * (self.ratio - 1)) / self.ratio


def rise(step: int, warmup: int) -> float:
    """The factor during warm-up: above zero at the first step, 1 at step `warmup`."""
    return (step + 1) / (warmup + 1)


def progress(step: int, total: int, warmup: int) -> float:
    """Progress of the decay: 0 at the end of the warm-up, 1 at step `total`, after the last one."""
    return min(1.0, (step - warmup) / max(1, total - warmup))


@dataclass
class Length:
    """The length of a run and its intervals, in optimizer steps."""

    per_epoch: int
    total: int
    warmup: int
    eval_every: int
    checkpoint_every: int
    log_every: int

    @property
    def evaluations(self) -> int:
        """How often validation is scored, where nothing ends the run early."""
        return math.ceil(self.total / self.eval_every)

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
    """The learning rate over a run; strategies plan their stages by it."""

    lr: float
    schedule: Schedule
    length: Length
    depth: int  # layers of the model; its stages are 0 to depth + 1

    def rate(self, step: int) -> float:
        """The learning rate at an optimizer step, counted from 0."""
        return self.lr * self.schedule.factor(step, self.length.total, self.length.warmup)
