"""Memory that is free: Python's garbage collector, kept away from what never will be, and glibc's malloc."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MMAP_THRESHOLD = -3  # of mallopt(3)


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


def return_what_is_free() -> None:
    """Have glibc give each block of a MiB or more back as soon as it is free, by mallopt(3).

    Else it keeps blocks up to 32 MiB: of a network split over processes layers that are whole for a moment,
    of weights in bf16 those in fp32 of an operation, between which it puts what stays.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None) is not None:
        mallopt(MMAP_THRESHOLD, 2**20)
