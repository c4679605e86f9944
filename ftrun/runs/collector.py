"""The garbage collector, kept away from what will never be garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No collections inside, of a command that reads much, keeps all of it and ends."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def importing(heaviest: str) -> Iterator[None]:
    """Import modules inside without collections, and exempt what they made from all later ones.

    torch and transformers make half a million objects that live to the end; looking through them takes a
    quarter of the time of importing them, and a second when Python ends. Nothing happens where `heaviest` has
    been imported before.
    """
    if heaviest in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


_exempt = False


def exempt_libraries() -> None:
    """After the first of many runs in a process: no later collection looks through what libraries keep.

    Only once, so that what a run leaves in a cycle is garbage to the next one.
    """
    global _exempt
    if not _exempt:
        gc.collect()
        gc.freeze()
        _exempt = True
