"""What the person at the keyboard can put right: one line each, and the exit code it ends with.

UserError         1  the run failed
├── ConfigError   2  usage or configuration
├── DataError     3  data
├── OutOfMemory   4  memory
├── Diverged      5  a loss or gradient that is not finite
└── Interrupted   128 + the signal's number
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class UserError(Exception):
    """A mistake that is not a bug: one line that names the setting or file, the value and the choice."""

    exit_code = 1


class ConfigError(UserError):
    """A setting that does not exist, or a value it cannot take."""

    exit_code = 2


class DataError(UserError):
    """A file, column or label that is not as the task needs it."""

    exit_code = 3


class OutOfMemory(UserError):
    """Even the smallest micro-batch does not fit."""

    exit_code = 4


class Diverged(UserError):
    """Training left the finite numbers."""

    exit_code = 5


class Interrupted(UserError):
    """A signal ended the run after its state was saved."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message, signum)  # both, so that the error can be pickled by a launcher
        self.signum = signum
        self.exit_code = 128 + signum

    def __str__(self) -> str:
        return str(self.args[0])


def near(name: str, possible: Iterable[str]) -> str:
    """The end of an error message: "; did you mean 'rank'?", or nothing when no possible name is like it."""
    found = get_close_matches(name, list(possible), n=1)
    return f"; did you mean '{found[0]}'?" if found else ""
