"""A run that ends early: why, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ftrun.errors import ConfigError, DataError, DiskFull, Interrupted, UserError
from ftrun.runs import clock
from ftrun.runs.files import disk_named
from ftrun.runs.run import FAILURE, Run, is_run
from ftrun.runs.terminal import leads, say


@contextmanager
def reason_kept(directory: Run, hint: str = "to continue", begun: bool = True) -> Iterator[None]:
    """Why a run ends early is kept in its directory, which is given back at the end.

    Where nothing was wrong with the run itself, the command that continues it is said. A directory that is
    not yet `begun` is taken away when settings or data are refused. Raises DiskFull for what a disk refuses.
    """
    try:
        with disk_named(directory.path):
            yield
    except BaseException as error:
        refused = isinstance(error, ConfigError | DataError) and not begun
        if leads() and not directory.finished and not (refused and directory.remove_unless_begun()):
            message = str(error) or type(error).__name__
            with suppress(OSError):  # on a full disk the first error is the one to show
                directory.write_json(FAILURE, {"message": message, "exit_code": exit_code(error)})
        if isinstance(error, Interrupted | KeyboardInterrupt | DiskFull) and not directory.finished:
            say(f"{hint}: ftrun resume {directory.path}")
        raise
    finally:
        if leads() and is_run(directory.path):
            with suppress(OSError):
                directory.log_time(*clock.lines())
        directory.release()


def exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, UserError) else 1
