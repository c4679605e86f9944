"""A run or a sweep that ends early: why, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ftrun.errors import ConfigError, DataError, DiskFull, InUse, exit_code_of
from ftrun.experiments.callbacks import Sweep
from ftrun.runs import clock
from ftrun.runs.files import disk_named
from ftrun.runs.run import CONFIG, FAILURE, Run, is_run
from ftrun.runs.terminal import leads, say
from ftrun.runs.typed import command, setting
from ftrun.training.processes.ranks import continued_by, settled


@contextmanager
def reason_kept(directory: Run, hint: str = "to continue", begun: bool = True) -> Iterator[None]:
    """Why a run ends early is kept in its directory, which is given back at the end.

    Where nothing was wrong with the run itself, the command that continues it is said. A directory that is
    not yet `begun` is taken away when settings or data are refused. Raises DiskFull for what a disk refuses,
    and InUse, whatever came of it, where another process has taken the run over: nothing of it is touched.
    """
    lost = None
    line = f"{hint}: {command('resume', directory.path)}"
    try:
        with continued_by(line, directory.path), disk_named(directory.path):
            yield
    except BaseException as raised:
        error = settled(raised)  # what all processes end with, or this one raised it
        if isinstance(error, KeyboardInterrupt | DiskFull) and not directory.finished:
            say(line)  # first: Ctrl-C may come once more
        if (lost := taken_over(directory)) is not None:
            raise lost from error
        refused = isinstance(error, ConfigError | DataError) and not begun
        failed = leads() and not isinstance(error, InUse) and not directory.finished
        if failed and not (refused and directory.remove_unless_begun()):
            message = str(error) or type(error).__name__
            with suppress(OSError):  # on a full disk the first error is the one to show
                directory.write_json(FAILURE, {"message": message, "exit_code": exit_code_of(error)})
        if error is raised:
            raise
        raise error from None
    finally:
        if leads() and lost is None and is_run(directory.path):
            with suppress(OSError):
                directory.log_time(*clock.lines())
        directory.release()


def taken_over(directory: Run) -> InUse | None:
    """That another process has taken over what this one held; None where it has not."""
    try:
        directory.keep()
    except InUse as lost:
        return lost
    except OSError:  # a full disk
        pass
    return None


def say_how_to_go_on(arguments: list[str], crossed: bool) -> None:
    """The command that continues a sweep, or a run of which so far there is the pre-training."""
    if Sweep.directory is not None:
        place, key = Sweep.directory, "hydra.run.dir" if crossed else "hydra.sweep.dir"
    elif Sweep.single is not None and (Sweep.single / "pretraining").is_dir():
        place, key = Sweep.single, "hydra.run.dir"
    else:
        return
    own = [word for word in arguments if not word.startswith(f"{key}=")]
    if place.is_dir() and not (place / CONFIG).is_file():
        say(f"to continue the whole: {command(*own, setting(key, place))}")
