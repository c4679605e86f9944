"""A copy of the tree, in which tests run in forks of a process that has imported everything but ftrun."""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from changes import Change

ROOT = Path(__file__).parents[2]
MEMORY = 12 * 1024**3  # bytes that a fork may have: a change can make a list endless
IDLE = 10
PYTEST = [
    "-q", "--assert=plain", "-p", "no:xdist", "-p", "no:cacheprovider", "--tb=no", "--no-header",
    "--no-summary",
]  # fmt: skip


class Tree:
    """A copy of the tree, in which tests run in forks of this process."""

    def __init__(self, place: Path) -> None:
        self.place, self.scratch = place / "tree", place / "scratch"
        for name in ("ftrun", "conf", "tests", "scripts"):
            shutil.copytree(ROOT / name, self.place / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy2(ROOT / name, self.place / name)
        sys.path.insert(0, str(self.place))
        os.environ["PYTHONPATH"] = str(self.place)
        os.chdir(self.place)

    def forked(self, work: Callable[[], int], limit: float) -> tuple[int | None, str]:
        """What `work` returns in a process of its own, None beyond its limit, and what it printed.

        The limit is in seconds of the processor, which other work on the machine does not shorten; a process
        that only waits has IDLE times as long.
        """
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        log = self.scratch / "log"
        if not (child := os.fork()):
            code = 70
            try:
                os.setsid()
                resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
                resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 1))
                tempfile.tempdir = os.environ["TMPDIR"] = str(self.scratch)
                sys.dont_write_bytecode = True
                stream = os.open(log, os.O_WRONLY | os.O_CREAT)
                os.dup2(stream, 1)
                os.dup2(stream, 2)
                code = work()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        ends = time.monotonic() + IDLE * limit
        while not (found := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > ends:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return None, log.read_text(errors="replace")
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what a broken test has left
        code = os.waitstatus_to_exitcode(found[1])
        return None if code == -signal.SIGXCPU else code, log.read_text(errors="replace")

    @contextlib.contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        file = self.place / change.path
        source, times = file.read_bytes(), file.stat()
        try:
            file.write_bytes(change.applied(source))
            yield
        finally:
            file.write_bytes(source)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def preload(modules: list[str]) -> None:
    """Import what the tests import but for ftrun, so that forks have it."""
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
