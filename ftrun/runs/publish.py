"""How a directory becomes a run, in one step, and what a killed process leaves in it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ftrun.errors import ConfigError, UserError, disk_full
from ftrun.runs.files import Lock, flush, is_locked, write_atomically
from ftrun.runs.terminal import say

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
RESULT = "result.json"
FAILURE = "failure.json"
CHECKPOINTS = "checkpoints"
PREFLIGHT = "preflight"  # where a network is saved once before the first step, to see that it can be
UNPUBLISHED = f".{CONFIG}.new"
# what `write_atomically`, `beside` and safetensors write before they rename it
HALF_WRITTEN = re.compile(r"\..+\.\d+|\.tmp\w{6}")


def publish(path: Path, config: str, beginning: dict[str, str]) -> Lock:
    """Make the directory a run, which it is from the moment that its config.yaml appears, and hold it.

    `beginning` are its other first files, name → text; they and an empty metrics.jsonl are there before.
    The directory may exist, and hold other files and what an earlier call left that was killed. Raises
    ConfigError where it holds a run or parts of one, or another process is making it one, and UserError
    where it cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        refuse_run(path)
        (path / UNPUBLISHED).touch()
        lock = Lock(path / UNPUBLISHED)
        write(path, config, beginning)
    except KeyboardInterrupt:
        if (path / CONFIG).exists():
            say(f"to continue: ftrun resume {path}")
        raise
    except BlockingIOError:
        raise ConfigError(f"{path} is in use by another process; wait or stop it") from None
    except FileExistsError as error:
        if error.filename == str(path):
            raise ConfigError(f"{path} is a file; a run directory is expected") from None
        raise already(path) from None
    except OSError as error:
        reason = UserError(f"cannot create the run directory {path}: {error.strerror}")
        raise disk_full(error, path) or reason from None
    return lock


def write(path: Path, config: str, beginning: dict[str, str]) -> None:
    """The first files of a directory whose unpublished config.yaml this process holds."""
    beside = path / UNPUBLISHED
    try:
        refuse_run(path)  # another process may have been faster
        taken_up(path)
        for name, text in beginning.items():
            write_atomically(path / name, text)
        (path / METRICS).touch()
        with open(beside, "w", encoding="utf-8") as file:
            file.write(config)
            flush(file)
        appear(beside, path / CONFIG)
    finally:
        beside.unlink(missing_ok=True)


def appear(beside: Path, path: Path) -> None:
    """Give a file its name; FileExistsError where another process gave it away meanwhile."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links here
        os.rename(beside, path)


def refuse_run(path: Path) -> None:
    """ConfigError where the directory holds a run, or what a run had before its config.yaml was removed."""
    metrics, result = path / METRICS, path / RESULT
    if (path / CONFIG).exists():
        if metrics.is_file() or result.is_file():
            raise already(path)
        raise ConfigError(
            f"{path} holds a {CONFIG} but no run: no {METRICS}; remove it, or choose another directory with"
            " hydra.run.dir=DIR"
        )
    rest = [result.name] if result.is_file() else []
    rest += [CHECKPOINTS] if (path / CHECKPOINTS).is_dir() else []
    rest += [METRICS] if metrics.is_file() and metrics.stat().st_size else []
    if rest:
        raise ConfigError(
            f"{path} holds the {rest[0]} of a run without its {CONFIG}; put it back, or choose another"
            " directory with hydra.run.dir=DIR"
        )


def already(path: Path) -> ConfigError:
    return ConfigError(f"{path} already holds a run; to continue it: ftrun resume {path}")


def taken_up(path: Path) -> None:
    """Forget why a run ended, and what a killed process left half written."""
    (path / FAILURE).unlink(missing_ok=True)
    sweep(path)


def sweep(path: Path) -> None:
    """Remove what killed processes left half written in a directory and below, but not in runs being made."""
    for folder, below, files in os.walk(path):
        place = Path(folder)
        if place != path and (place / CONFIG).is_file() and is_locked(place / CONFIG):
            below.clear()
            continue
        for name in [*below, *files]:
            if name == PREFLIGHT or HALF_WRITTEN.fullmatch(name):
                remove(place / name)
        below[:] = [name for name in below if name != CHECKPOINTS and (place / name).is_dir()]


def remove(place: Path) -> None:
    """Remove a file or a directory, if it is there."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
