"""SIGINT and SIGTERM: the first one is remembered, so that what is under way can be ended well."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftrun.errors import Interrupted


@contextmanager
def interruptions() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM; a second SIGINT acts as usual. None come to other threads."""
    caught: list[int] = []
    former: dict[int, Any] = {}

    def remember(signum: int, frame: Any) -> None:
        caught.append(signum)
        restore()
        if (
            signum == signal.SIGTERM
        ):  # a scheduler sends it twice: before a job's last seconds, and after them
            signal.signal(signum, signal.SIG_IGN)

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.getsignal(number)
            signal.signal(number, remember)
    try:
        yield caught
    finally:
        restore()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until what is inside has ended, then acts as usual; in other threads nothing changes."""
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or former is signal.SIG_IGN:
        yield
        return
    caught: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if caught:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def ending_softly() -> Iterator[None]:
    """SIGTERM raises Interrupted inside, as Ctrl-C does KeyboardInterrupt; a run that trains saves first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise Interrupted("terminated", number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
