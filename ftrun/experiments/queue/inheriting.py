"""What a process has from the one that starts it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


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
