"""The command line: a word is a command, key=value is an experiment; a user error is one line."""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ftrun import __version__
from ftrun.errors import ConfigError, Interrupted, UserError, disk_full, memory_told, near
from ftrun.runs.signals import handled, once_more, postponed
from ftrun.runs.streams import GONE, outputs
from ftrun.runs.terminal import leads, several
from ftrun.runs.typed import takes_several

COMMANDS = Path(__file__).parent / "commands"
# raised by an outputs/ that cannot be written; any other OSError but those of a full disk is a bug
DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def main() -> int:
    """Run the command line; returns the exit code."""
    atexit.register(gc.freeze)  # Python looks for garbage when it ends: a second, once torch is there
    with outputs() as (out, _), interruptible() as caught:
        try:
            code = shared(sys.argv[1:])
        except Exception:  # what an extension module made of a signal while it was imported
            if not caught:
                raise
            code = say("interrupted" if caught[0] == signal.SIGINT else "terminated", 128 + caught[0])
        out.flush()
        if out.failure is None or out.failure.errno in GONE or code:
            return code
        return say(f"standard output cannot be written: {out.failure.strerror}", 1)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Ctrl-C raises KeyboardInterrupt inside, SIGTERM an Interrupted, and both are kept in the list.

    What Python drops, as in the `__del__` of an object, comes once more. A process that was started to ignore
    one, as a shell starts those in the background, goes on to. Several processes hear SIGTERM on their own.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def remember(number: int, frame: FrameType | None) -> None:
        if not postponed(number, frame):
            caught.append(number)
            raise KeyboardInterrupt if number == signal.SIGINT else Interrupted("terminated", number)

    def dropped(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt):
            hook(unraisable)
        else:  # raised from here it would be dropped, too
            once_more(error.signum if isinstance(error, Interrupted) else signal.SIGINT)

    hook, sys.unraisablehook = sys.unraisablehook, dropped
    with ExitStack() as stack:
        for number in (signal.SIGINT,) if several() else (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                stack.enter_context(handled(number, remember))
        try:
            yield caught
        finally:
            sys.unraisablehook = hook


def shared(arguments: list[str]) -> int:
    """What the first of several processes does, the others taking part; the exit code, the same in all."""
    if not takes_several(arguments):  # the first alone does it
        return guarded(arguments) if leads() or not several() else 0
    from ftrun.training.processes.launchers import refuse_environment

    try:
        refuse_environment()
    except ConfigError as error:
        return say(str(error), error.exit_code) if leads() else error.exit_code
    if not several():
        return guarded(arguments)
    from ftrun.training.processes import ranks

    if not leads():
        return ranks.follow()
    with ranks.leading() as codes:
        codes.append(guarded(arguments))
    return codes[0]


def guarded(arguments: list[str]) -> int:
    """What the person can do something about, in a line; returns the exit code, raises what is a bug."""
    try:
        with memory_told():
            return start([readable(word) for word in arguments])
    except (UserError, Interrupted) as error:
        return say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return say("interrupted", 130)
    except Exception as error:
        if (full := disk_full(error)) is not None:
            return say(str(full), full.exit_code)
        if not isinstance(error, OSError):
            raise
        if error.errno == errno.ENAMETOOLONG:
            return say(f"a name of a file is too long: {str(error.filename)[:60]}…", 2)
        if error.errno not in DISK:
            raise
        return say(f"{(error.strerror or str(error)).lower()}: {error.filename or 'outputs'}", 1)


def readable(word: str) -> str:
    """The word; raises ConfigError for bytes that are no UTF-8, which no file of a run can hold."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"'{word}' is not UTF-8; rename the file, or give a path that is") from None
    return word


def start(arguments: list[str]) -> int:
    """Run a command or an experiment; returns the exit code."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the current directory is no longer there; change to one that is") from None
    if not arguments:
        from ftrun.commands.help import short

        print(short(), flush=True)
        return 0
    first = arguments[0]
    if first == "--version":
        print(f"ftrun {__version__}")
        return 0
    if first in ("--help", "-h"):
        return command("help", arguments[1:])
    if not first.startswith(("-", "+", "~")) and "=" not in first:
        return command(first, arguments[1:])

    if "strategy=auto" in arguments:
        from ftrun.commands.advise import auto

        arguments = auto(arguments)
    from ftrun.experiments.launch import launch

    return launch(arguments)


def command(name: str, arguments: list[str]) -> int:
    """Run the `main` of commands/NAME.py; returns the exit code."""
    words = sorted(path.stem for path in COMMANDS.glob("[a-z]*.py"))
    if name not in words:
        raise ConfigError(
            f"'{name}' is neither a command nor key=value; "
            f"the commands are {', '.join(words)}{near(name, words)}"
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # where the modules of one's own strategies and tasks are found
    return importlib.import_module(f"ftrun.commands.{name}").main(arguments) or 0


def say(message: str, exit_code: int) -> int:
    """Print one line on stderr; of several processes, for the others and torchrun's table too."""
    line = f"ftrun: {' '.join(message.split())}"
    print(line, file=sys.stderr, flush=True)
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from ftrun.training.processes.ranks import said

        said(line)
    return exit_code
