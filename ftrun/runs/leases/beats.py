"""Signs of life: one thread of the process, begun when the first is wanted, gives those of all that lives."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Protocol

BEAT = 10.0  # seconds between two


class Living(Protocol):
    """What gives signs of life until it is let go of."""

    def beat(self) -> None:
        """Give one; raises nothing."""


_lock = threading.Lock()
_living: weakref.WeakSet[Living] = weakref.WeakSet()
_thread: threading.Thread | None = None


def begin(each: Living) -> None:
    """From now on it gives signs of life, as long as it is there or until `end`."""
    global _thread
    with _lock:
        _living.add(each)
        if _thread is None:
            _thread = threading.Thread(target=_give, name="signs of life", daemon=True)
            _thread.start()


def end(each: Living) -> None:
    """No more of it."""
    with _lock:
        _living.discard(each)


def _give() -> None:
    """Those of all, until there are none."""
    global _thread
    while True:
        time.sleep(BEAT)
        with _lock:
            now = list(_living)
            if not now:
                _thread = None
                return
        while now:
            now.pop().beat()


def _forked() -> None:
    """A forked process has neither the thread nor anything that lives: that is its parent's."""
    global _lock, _living, _thread
    _lock, _living, _thread = threading.Lock(), weakref.WeakSet(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
