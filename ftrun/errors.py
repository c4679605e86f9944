"""Errors that the user can fix: one line each, and the exit code that the program ends with.

UserError         1  the run failed
├── ConfigError   2  usage or configuration
├── DataError     3  data
├── OutOfMemory   4  memory
├── Diverged      5  a loss or gradient that is not finite
├── DiskFull      1  a disk or a quota that takes no more
└── Interrupted   128 + the signal's number
    └── Paused    128  no signal: the run waits where it was asked to
"""

from __future__ import annotations

import errno
import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
# of libraries written in Rust (safetensors, tokenizers), whose errors are no OSError, and of shutil
NUMBERED = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")


class UserError(Exception):
    """A user's mistake, not a bug: one line that names the setting or file, the value and the choices."""

    exit_code = 1


class ConfigError(UserError):
    """A setting that does not exist, or an invalid value."""

    exit_code = 2


class DataError(UserError):
    """A file, column or label that the task cannot use."""

    exit_code = 3


class OutOfMemory(UserError):
    """Even the smallest micro-batch does not fit."""

    exit_code = 4


class Diverged(UserError):
    """A loss or a gradient is not finite."""

    exit_code = 5


class Interrupted(UserError):
    """A signal ended the run after its state was saved."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message, signum)  # both, so that the error can be pickled by a launcher
        self.signum = signum
        self.exit_code = 128 + signum

    def __str__(self) -> str:
        return str(self.args[0])


class Paused(Interrupted):
    """A run waits at an evaluation, as it was asked to; its state is saved, and resuming goes on."""

    def __init__(self, message: str, signum: int = 0) -> None:
        super().__init__(message, signum)


class DiskFull(UserError):
    """A disk or a quota takes no more; what was written before is whole."""


def disk_full(error: BaseException, place: object = "") -> DiskFull | None:
    """The error in a line with the file that it names, else the place; None unless a disk takes no more."""
    numbers = [int(one or other) for one, other in NUMBERED.findall(str(error))]
    found = [error.errno] if isinstance(error, OSError) and error.errno else numbers
    if isinstance(error, UserError) or not FULL & {*found}:
        return error if isinstance(error, DiskFull) else None
    reason = os.strerror(next(number for number in found if number in FULL))
    name = getattr(error, "filename", None) or place
    return DiskFull(f"{reason[:1].lower()}{reason[1:]}" + (f": {name}" if name else ""))


def near(name: str, possible: Iterable[str]) -> str:
    """The end of an error message: "; did you mean 'rank'?", or nothing if no possible name is similar."""
    found = get_close_matches(name, list(possible), n=1)
    return f"; did you mean '{found[0]}'?" if found else ""


def counted(number: int, noun: str, several: str = "") -> str:
    """ "1 row", "1,234 rows"; `several` is the plural of a noun that takes more than an s."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names, quoted, and how many more there are."""
    shown = ", ".join(repr(name if len(name) <= 40 else name[:39] + "…") for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
