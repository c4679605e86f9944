"""The command line: words are commands, key=value is an experiment; a user's mistake is one line."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path

from ftrun import __version__
from ftrun.errors import ConfigError, UserError, near

COMMANDS = Path(__file__).parent / "commands"
# what a full disk, a read-only or occupied outputs/ raises; any other OSError is a bug
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def main() -> int:
    """Run what the command line says; returns the exit code."""
    try:
        return start(sys.argv[1:])
    except UserError as error:
        return say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return say("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has left: `ftrun report … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in DISK:
            raise
        return say(f"{(error.strerror or str(error)).lower()}: {error.filename or 'outputs'}", 1)


def start(arguments: list[str]) -> int:
    """Tell commands from experiments."""
    first = arguments[0] if arguments else ""
    if first == "--version":
        print(f"ftrun {__version__}")
        return 0
    if first in ("--help", "-h"):
        return command("help", arguments[1:])
    if first and not first.startswith(("-", "+", "~")) and "=" not in first:
        return command(first, arguments[1:])

    if "strategy=auto" in arguments:
        from ftrun.commands.advise import auto

        arguments = auto(arguments)
    from ftrun.experiments.launch import launch

    if not arguments:
        print("ftrun: the default experiment (ftrun --help lists everything that can be said)", flush=True)
    return launch(arguments)


def command(name: str, arguments: list[str]) -> int:
    """The `main` of commands/NAME.py."""
    words = sorted(path.stem for path in COMMANDS.glob("[a-z]*.py"))
    if name not in words:
        raise ConfigError(
            f"'{name}' is neither key=value nor a command; "
            f"the commands are {', '.join(words)}{near(name, words)}"
        )
    return importlib.import_module(f"ftrun.commands.{name}").main(arguments) or 0


def say(message: str, exit_code: int) -> int:
    """One line on stderr; of several processes only the first speaks of a wrong setting."""
    if exit_code != 2 or os.environ.get("RANK", "0") == "0":
        print(f"ftrun: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return exit_code
