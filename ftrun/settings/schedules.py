"""Learning-rate curves: pure functions of the optimizer step, a factor of the peak rate between 0 and 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ftrun.errors import ConfigError
from ftrun.settings.checks import above, at_least


@dataclass
class Linear:
    """Up during the warm-up, then straight down to zero (the curve of BERT, Devlin et al. 2019)."""

    def factor(self, step: int, total: int, warmup: int) -> float:
        """The factor for optimizer step `step` of `total`, counted from 0."""
        return rise(step, warmup) if step < warmup else 1 - progress(step, total, warmup)


@dataclass
class Cosine:
    """Up during the warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017)."""

    def factor(self, step: int, total: int, warmup: int) -> float:
        """The factor for optimizer step `step` of `total`, counted from 0."""
        return (
            rise(step, warmup)
            if step < warmup
            else (1 + math.cos(math.pi * progress(step, total, warmup))) / 2
        )


@dataclass
class Constant:
    """Up during the warm-up, then flat."""

    def factor(self, step: int, total: int, warmup: int) -> float:
        """The factor for optimizer step `step` of `total`, counted from 0."""
        return rise(step, warmup) if step < warmup else 1.0


@dataclass
class SlantedTriangular:
    """A short rise and a long fall (ULMFiT, Howard and Ruder 2018, equation 3), in place of a warm-up.

    `cut` is the share of steps that rise, `ratio` how much smaller the lowest rate is than the peak.
    """

    cut: float
    ratio: float

    def __post_init__(self) -> None:
        above("schedule.cut", self.cut, 0)
        at_least("schedule.ratio", self.ratio, 1)
        if self.cut >= 1:
            raise ConfigError(f"schedule.cut is a share below 1, not {self.cut}")

    def factor(self, step: int, total: int, warmup: int) -> float:
        """The factor for optimizer step `step` of `total`, counted from 0; `warmup` has no part in it."""
        peak = math.floor(total * self.cut)
        # the fall ends at step `total`; the printed formula can end below zero
        share = step / peak if step < peak else 1 - progress(step, total, peak)
        return (1 + share * (self.ratio - 1)) / self.ratio


def rise(step: int, warmup: int) -> float:
    """The warm-up: the first step already learns, the peak is reached at step `warmup`."""
    return (step + 1) / (warmup + 1)


def progress(step: int, total: int, warmup: int) -> float:
    """How far the fall has come: 0 at the end of the warm-up, 1 at step `total`, which is never taken."""
    return min(1.0, (step - warmup) / max(1, total - warmup))
