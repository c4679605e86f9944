"""Errors that the user can fix: one line each, and the exit code that the program ends with.

UserError         1  the run failed
├── ConfigError   2  usage or configuration
│   └── InUse     2  another process makes it at this moment: no failure of a sweep
├── DataError     3  data
├── OutOfMemory   4  memory
├── Diverged      5  a loss or gradient that is not finite
└── DiskFull      1  a disk or a quota that takes no more

Interrupted       128 + the signal's number; a KeyboardInterrupt, as nothing went wrong
└── Paused        128  no signal: the run waits where it was asked to
"""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MEMORY = (  # what torch's allocators, oneDNN, CUDA's libraries, C++ and the system say when there is no more
    "out of memory", "allocate memory", "not enough memory", "unable to allocate", "bad_alloc",
    "bad allocation", "alloc_failed", "could not create a primitive", "could not create a memory",
)  # fmt: skip
LESS = "fewer rows, a smaller model, strategy=linear_probe or lora, fewer processes beside this one"
UNSUPPORTED = "could not create a primitive descriptor"  # what oneDNN says of an operation that it lacks

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
# of libraries written in Rust (safetensors, tokenizers), whose errors are no OSError, and of shutil
NUMBERED = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")


class UserError(Exception):
    """A user's mistake, not a bug: one line that names the setting or file, the value and the choices."""

    exit_code = 1


class ConfigError(UserError):
    """A setting that does not exist, or an invalid value."""

    exit_code = 2


class InUse(ConfigError):
    """Another process makes it, or has taken it over; nothing is wrong with it."""


class DataError(UserError):
    """A file, column or label that the task cannot use."""

    exit_code = 3


class OutOfMemory(UserError):
    """The memory of the machine or of the GPU does not suffice."""

    exit_code = 4


class Diverged(UserError):
    """A loss or a gradient is not finite."""

    exit_code = 5


class Interrupted(KeyboardInterrupt):
    """A signal ended what was done; a run that trains has saved its state before.

    It is no Exception: it comes at any moment, and who expects one there is not to take it for a failure.
    """

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


def exit_code_of(error: BaseException) -> int:
    """The exit code of a process that this ends; 1 for a bug."""
    if isinstance(error, UserError | Interrupted):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


class DiskFull(UserError):
    """A disk or a quota takes no more; what was written before is whole."""


def needs(what: str, extra: str, *modules: str) -> None:
    """ConfigError where a module of one of the package's extras is not installed; none is imported."""
    known = sys.modules
    lost = [name for name in modules if (known[name] if name in known else find_spec(name)) is None]
    if lost:
        raise ConfigError(f"{what} needs {', '.join(lost)}: pip install 'ftrun[{extra}]'")


def disk_full(error: BaseException, place: object = "") -> DiskFull | None:
    """The error in a line with the file that it names, else the place; None unless a disk takes no more."""
    numbers = [int(one or other) for one, other in NUMBERED.findall(str(error))]
    found = [error.errno] if isinstance(error, OSError) and error.errno else numbers
    if isinstance(error, UserError) or not FULL & {*found}:
        return error if isinstance(error, DiskFull) else None
    reason = os.strerror(next(number for number in found if number in FULL))
    name = getattr(error, "filename", None)
    if not name or not os.path.isdir(os.path.dirname(os.path.abspath(name))):  # one made for a moment
        name = place or name
    return DiskFull(f"{reason[:1].lower()}{reason[1:]}" + (f": {name}" if name else ""))


def out_of_memory(error: BaseException) -> bool:
    """Whether memory is exhausted, on whatever device: by Python, numpy, torch, oneDNN or the system."""
    if isinstance(error, MemoryError):  # numpy's array memory error is one
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    kinds = {kind.__name__ for kind in type(error).__mro__}
    said = str(error).lower()
    return "OutOfMemoryError" in kinds or (
        not kinds.isdisjoint(("RuntimeError", "SafetensorError"))
        and UNSUPPORTED not in said
        and any(sign in said for sign in MEMORY)
    )


@contextmanager
def memory_told(what: str = "", possible: str = LESS) -> Iterator[None]:
    """OutOfMemory, "out of memory WHAT; possible: …", where memory is exhausted inside; a decorator too."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not out_of_memory(error):
            raise
        reason = f" ({told(error)})" if str(error) else ""
        raise OutOfMemory(f"out of memory{' ' * bool(what)}{what}{reason}; possible: {possible}") from error


def told(error: BaseException, most: int = 200) -> str:
    """What a library says, in one line of at most so many characters; its kind where it says nothing."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, most)


def shortened(text: str, most: int) -> str:
    """A text in at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def near(name: str, possible: Iterable[str]) -> str:
    """The end of an error message: "; did you mean 'rank'?", or nothing if no possible name is similar."""
    found = get_close_matches(name, list(possible), n=1)
    return f"; did you mean '{found[0]}'?" if found else ""


def counted(number: int, noun: str, several: str = "") -> str:
    """ "1 row", "1,234 rows"; `several` is the plural of a noun that takes more than an s."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def kind_of(value: object) -> str:
    """What a value is, as users of JSON and tables call it: "an integer", "a list", "nothing"."""
    kinds = {
        bool: "a boolean", int: "an integer", float: "a number", str: "text", list: "a list",
        dict: "an object", bytes: "bytes", type(None): "nothing",
    }  # fmt: skip
    return kinds.get(type(value)) or f"a value of type {type(value).__name__}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names, quoted, and how many more there are."""
    shown = ", ".join(repr(name if len(name) <= 40 else name[:39] + "…") for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
