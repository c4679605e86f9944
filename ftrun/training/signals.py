"""SIGINT and SIGTERM: the first one ends the run after the current step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptions() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM; a second one has its usual effect."""
    caught: list[int] = []
    former: dict[int, Any] = {}

    def remember(signum: int, frame: Any) -> None:
        caught.append(signum)
        restore()

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        former[number] = signal.getsignal(number)
        signal.signal(number, remember)
    try:
        yield caught
    finally:
        restore()
