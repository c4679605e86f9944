"""How a directory becomes a run, in one step, and what a killed process leaves in it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ftrun.errors import ConfigError, UserError, disk_full
from ftrun.runs.files import flush, write_atomically
from ftrun.runs.leases.holder import holder, in_use
from ftrun.runs.leases.lease import Lease
from ftrun.runs.terminal import say
from ftrun.runs.typed import command, continuing

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
RESULT = "result.json"
FAILURE = "failure.json"
CHECKPOINTS = "checkpoints"
SETTLED = "settled.json"  # what was asked for where config.yaml has the number found for it
LOG = "log.txt"  # what a run of a comparison says
ENVIRONMENT = "environment.json"
BEGINNING = (CONFIG, METRICS, SETTLED, LOG, ENVIRONMENT, "data.json")
PREFLIGHT = "preflight"  # where a network is saved once before the first step, to see that it can be
UNPUBLISHED = f".{CONFIG}.new"
# what `write_atomically`, `beside` and safetensors write before they rename it
LEASE = re.compile(r"\.lease-\d+")
HALF_WRITTEN = re.compile(r"\..+\.\d+|\.tmp\w{6}")


class Begun(ConfigError):
    """A directory holds a run, which nobody makes at this moment."""


def publish(path: Path, config: str, beginning: dict[str, str]) -> Lease:
    """Make the directory a run, which it is from the moment that its config.yaml appears, and hold it.

    `beginning` are its other first files, name → text; they and an empty metrics.jsonl are there before.
    The directory may exist, and hold other files and what an earlier call left that was killed. Raises InUse
    where another process is making it, ConfigError where it holds a run or parts of one, and UserError where
    it cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        refuse_run(path)
        lease = Lease(path, str(path))
        try:
            write(path, config, beginning)
        except BaseException:
            lease.release(gone=not (path / CONFIG).exists())
            raise
    except KeyboardInterrupt:
        say_how_it_goes_on(path)
        raise
    except FileExistsError as error:
        if error.filename == str(path):
            raise ConfigError(f"{path} is a file; a run directory is expected") from None
        raise already(path) from None
    except OSError as error:
        raise refused(error, path, "cannot create the run directory") from None
    return lease


def write(path: Path, config: str, beginning: dict[str, str]) -> None:
    """The first files of a directory that this process holds."""
    beside = path / UNPUBLISHED
    try:
        refuse_run(path)  # another process may have been faster
        cleared(path)
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
    """That it holds a run, which goes on; InUse where that is being made."""
    if not (path / RESULT).is_file() and (by := holder(path)) is not None and by.lives:
        return in_use(str(path), by)
    return Begun(f"{path} already holds a run; {continuing(path)}")


def only_begun(path: Path) -> bool:
    """Whether a directory holds nothing but what every run begins with, and leases."""
    names = {file.name for file in path.iterdir() if not LEASE.fullmatch(file.name)}
    return names <= {*BEGINNING} and not (path / METRICS).stat().st_size


def remove_begun(path: Path) -> None:
    """Remove what it has; what makes it a run first, and what says whose it is last."""
    names = [file.name for file in path.iterdir()]
    for name in sorted(names, key=lambda name: (name != CONFIG, bool(LEASE.fullmatch(name)), name)):
        (path / name).unlink()


def taken_up(path: Path) -> Lease:
    """Hold a run, and forget why it ended and what a killed process left half written.

    Raises InUse where another process holds it, and UserError where nothing can be written.
    """
    try:
        lease = Lease(path, str(path))
        try:
            cleared(path)
        except BaseException:
            lease.release()
            raise
    except KeyboardInterrupt:
        say_how_it_goes_on(path)
        raise
    except OSError as error:
        raise refused(error, path, "cannot write to") from None
    return lease


def refused(error: OSError, path: Path, what: str) -> UserError:
    """Why a directory cannot be held; where the disk is full, how the run that it is goes on is said."""
    if (full := disk_full(error, path)) is not None:
        say_how_it_goes_on(path)
    return full or UserError(f"{what} {path}: {error.strerror}")


def say_how_it_goes_on(path: Path) -> None:
    if (path / CONFIG).exists():
        say(f"to continue: {command('resume', path)}")


def cleared(path: Path) -> None:
    """Remove the traces of an earlier process."""
    for name in (FAILURE, UNPUBLISHED):
        (path / name).unlink(missing_ok=True)
    sweep(path)


def sweep(path: Path) -> None:
    """Remove what killed processes left half written in a directory and below, but not in runs being made."""
    for folder, below, files in os.walk(path):
        place = Path(folder)
        if place != path and (by := holder(place)) is not None and by.lives:
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
