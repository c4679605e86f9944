"""What a process has from the one that starts it, and how it ends with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ftrun.training.processes.peers import runs

EVERY = 1.0  # seconds between two looks at whether a process that waits for it still lives


@contextmanager
def inherited(environment: dict[str, str]) -> Iterator[None]:
    """A process that is started inside has these variables, and never gets SIGINT, the driver's."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def follow(*others: int) -> None:
    """Have this process save and end when one of these, who wait for it, has gone without a word."""

    def watch() -> None:
        while all(map(runs, others)):
            time.sleep(EVERY)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
