"""The command line: a word is a command, key=value is an experiment; a user error is one line."""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import os
import sys
from pathlib import Path

from ftrun import __version__
from ftrun.errors import ConfigError, UserError, disk_full, near

COMMANDS = Path(__file__).parent / "commands"
# raised by an outputs/ that cannot be written; any other OSError but those of a full disk is a bug
DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def main() -> int:
    """Run the command line; returns the exit code."""
    atexit.register(gc.freeze)  # Python looks for garbage when it ends: a second, once torch is there
    try:
        return start(sys.argv[1:])
    except UserError as error:
        return say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return say("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has exited: `ftrun report … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if (full := disk_full(error)) is not None:
            return say(str(full), full.exit_code)
        if not isinstance(error, OSError) or error.errno not in DISK:
            raise
        return say(f"{(error.strerror or str(error)).lower()}: {error.filename or 'outputs'}", 1)


def start(arguments: list[str]) -> int:
    """Run a command or an experiment; returns the exit code."""
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
    """Print one line on stderr; of several processes only the first reports a wrong setting."""
    if exit_code != 2 or os.environ.get("RANK", "0") == "0":
        print(f"ftrun: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return exit_code
