"""A range that a search draws a setting from: choices, or an interval of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TAGS = {"log", "times"}
END = 0.05  # of an interval, at either end, where the best value may lie beyond it


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    text: str  # as it was written
    words: tuple[str, ...]  # each value as Hydra reads it
    values: tuple[Any, ...]

    @property
    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.words)

    def word(self, drawn: Any, base: Any) -> str:
        """The value of a drawn parameter as it stands in key=value."""
        return str(drawn)

    def drawn(self, value: Any, base: Any) -> Any:
        """The parameter that means a value; None where the range leaves it out."""
        return self.words[self.values.index(value)] if value in self.values else None

    def nearest(self, value: Any) -> str | None:
        """The value of the range to begin with where it leaves out the default, else None."""
        return self.words[0] if value not in self.values else None


@dataclass(frozen=True)
class Interval:
    """A number between two ends, both included."""

    text: str
    low: float
    high: float
    log: bool
    times: bool  # the ends are multiples of the default

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int) and not self.times

    @property
    def values(self) -> tuple[Any, ...]:
        """Both ends, if they are values."""
        return () if self.times else (self.low, self.high)

    @property
    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def word(self, drawn: Any, base: Any) -> str:
        """The value of a drawn parameter as it stands in key=value: two digits on a log scale, else three."""
        value = drawn * base if self.times else drawn
        if self.whole or (self.times and isinstance(base, int)):
            return str(round(value))
        return f"{value:.2g}" if self.log else f"{value:.3g}"

    def drawn(self, value: Any, base: Any) -> Any:
        """The parameter that means a value; None where the range leaves it out."""
        if not is_number(value):
            return None
        found = value / base if self.times else value
        return found if self.low <= found <= self.high else None

    def nearest(self, value: Any) -> str | None:
        """The value of the range to begin with where it leaves out the default, else None."""
        if self.times or not is_number(value) or self.low <= value <= self.high:
            return None
        return self.word(min(max(value, self.low), self.high), None)


Range = Choice | Interval


def interval(word: str, text: str, low: float, high: float, tags: set[str]) -> Interval:
    """An interval as it was written; ConfigError for ends or tags that it cannot have."""
    if unknown := sorted(tags - TAGS):
        raise ConfigError(f"{word}: '{unknown[0]}' is no tag of a range; possible: log, times")
    times = "times" in tags
    log = times or "log" in tags
    if not low < high:
        raise ConfigError(f"{word}: the first end is below the second, not {low:g} and {high:g}")
    if log and low <= 0:
        raise ConfigError(f"{word}: on a log scale both ends are above 0, not {low:g}")
    return Interval(text, low, high, log, times)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_base(each: Range, default: Any) -> bool:
    """Whether a range can be about this default: multiples are of a number above 0."""
    return isinstance(each, Choice) or not each.times or (is_number(default) and default > 0)


def begun_with(each: Range, default: Any) -> tuple[Any, str]:
    """The parameter that means the default, None where the range leaves it out, and how it is written."""
    if (drawn := each.drawn(default, default)) is not None:
        return drawn, each.word(drawn, default)
    return None, f"{default:g}" if isinstance(default, float) else str(default)


def is_near_end(each: Range, drawn: Any) -> bool:
    """Whether a drawn number is so near an end of its interval that better ones may lie beyond."""
    if isinstance(each, Choice):
        return False
    low, high, value = (math.log(one) if each.log else one for one in (each.low, each.high, drawn))
    return not END <= (value - low) / (high - low) <= 1 - END
