"""The memory of a run: what it needs beyond what the process had before, whatever ran in the process earlier.

The weights, and the peak of what comes on top of them: gradients, the optimizer's moments, what a strategy
holds, activations, the saved model and its check. The rows and Python itself are not counted. On a GPU it is
what torch's allocator gave out; on Linux the anonymous pages of the process, sampled every few
milliseconds. Elsewhere nothing in the standard library tells it, and it is not known.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ftrun.models.few_bits.half import kept
from ftrun.models.split import nbytes

if TYPE_CHECKING:
    from ftrun.models.model import Model

EVERY = 0.005  # seconds between two looks at the process


class MemoryMeter:
    """Watches from its making to `close`; `bytes` is then, as before, the most that the run has needed."""

    def __init__(self, device: torch.device, model: Model) -> None:
        self.device = device
        self.weights = nbytes_of(model)
        self.above = 0
        self._stop, self._paused = threading.Event(), False
        self._level, self._thread = self.settled(), None
        if self._level is not None and device.type != "cuda":
            self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
            self._thread.start()

    @property
    def bytes(self) -> int | None:
        """The weights and the largest growth seen; None where it cannot be known."""
        self._look()
        return None if self._level is None else self.weights + self.above

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What happens inside does not count, nor does what stays: libraries are set up on first use."""
        self._look()
        before, self._paused = self.settled(), True
        yield
        after = self.settled()
        if self._level is not None and before is not None and after is not None:
            self._level += after - before
        self._paused = False

    def settled(self) -> int | None:
        """Bytes in use once the garbage is collected and what is free went back to the system."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        if (trim := _trim()) is not None:
            trim(0)
        return anonymous()

    def close(self) -> None:
        """End the watching; harmless when it has ended."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY):
            if not self._paused:
                self._look()

    def _look(self) -> None:
        gpu = self.device.type == "cuda"
        most = torch.cuda.max_memory_allocated(self.device) if gpu else anonymous()
        if most is not None and self._level is not None:
            self.above = max(self.above, most - self._level)


def nbytes_of(model: Model) -> int:
    """Bytes of the weights and buffers of a network, as they are in memory."""
    return sum(nbytes(kept(tensor)) for tensor in [*model.parameters(), *model.buffers()])


def anonymous() -> int | None:
    """Bytes of this process in memory that are of no file, by Linux; None elsewhere."""
    try:
        with open("/proc/self/statm", "rb") as file:
            _, resident, shared, *_ = file.read().split()
    except OSError:
        return None
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim(3), which gives free memory back; None where the C library has none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
