"""Schedules of temperature and momentum, pure functions of the optimizer step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ftrun.errors import ConfigError
from ftrun.settings.checks import above, at_least, one_of, steps_of


@dataclass
class Temperature:
    """The temperature: `tau`, or half a cosine from `start` down to it during the warm-up."""

    schedule: str
    tau: float
    start: float
    warmup: float  # share of all steps below 1, else steps

    def __post_init__(self) -> None:
        one_of("task.schedule_tau", self.schedule, ["constant", "cosine"])
        above("task.tau", self.tau, 0)
        above("task.tau_start", self.start, 0)
        at_least("task.tau_warmup", self.warmup, 0)

    def at(self, step: int, total: int) -> float:
        """The temperature of optimizer step `step` of `total`, counted from 0."""
        warmup = steps_of(self.warmup, total)
        if self.schedule == "constant" or step >= warmup:
            return self.tau
        return self.tau + (self.start - self.tau) * (1 + math.cos(math.pi * step / warmup)) / 2


@dataclass
class Momentum:
    """The momentum of the key encoder: constant, or half a cosine up to 1 (Grill et al. 2020)."""

    schedule: str
    momentum: float

    def __post_init__(self) -> None:
        one_of("task.schedule_momentum", self.schedule, ["constant", "cosine"])
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"task.momentum is at least 0 and below 1, not {self.momentum}")

    def at(self, step: int, total: int) -> float:
        """The momentum after optimizer step `step` of `total`, counted from 0."""
        if self.schedule == "constant":
            return self.momentum
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * step / total)) / 2
