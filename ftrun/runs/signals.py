"""SIGINT and SIGTERM: the first one is remembered, so that what is under way can be ended well."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ftrun.errors import Interrupted

SOON = 0.01  # seconds after which a signal that could not be raised comes once more


def once_more(number: int) -> None:
    """The signal comes again in a moment."""
    threading.Timer(SOON, os.kill, [os.getpid(), number]).start()


def postponed(number: int, frame: FrameType | None) -> bool:
    """Whether torch is being imported, whose C++ aborts at an exception: then the signal comes once more."""
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if frame.f_code.co_name == "<module>" and name.partition(".")[0] == "torch":
            once_more(number)
            return True
        frame = frame.f_back
    return False


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
def handled(number: int, handler: Callable[[int, Any], object]) -> Iterator[None]:
    """The signal goes to the handler inside; in other threads nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until what is inside has ended, then acts as usual."""
    caught: list[int] = []
    try:
        with handled(signal.SIGINT, lambda number, frame: caught.append(number)):
            yield
    finally:
        if caught:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def ending_softly() -> Iterator[None]:
    """SIGTERM raises Interrupted inside, as Ctrl-C does KeyboardInterrupt; a run that trains saves first."""

    def end(number: int, frame: FrameType | None) -> None:
        if not postponed(number, frame):
            raise Interrupted("terminated", number)

    with handled(signal.SIGTERM, end):
        yield
