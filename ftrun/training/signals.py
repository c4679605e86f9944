"""Ctrl-C and termination: the first one is remembered for the end of the step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptions() -> Iterator[list[int]]:
    """Collects the first SIGINT or SIGTERM for the end of the step; the second does what it always does."""
    caught: list[int] = []
    former: dict[int, Any] = {}

    def remember(signum: int, frame: Any) -> None:
        caught.append(signum)
        give_back()

    def give_back() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        former[number] = signal.getsignal(number)
        signal.signal(number, remember)
    try:
        yield caught
    finally:
        give_back()
