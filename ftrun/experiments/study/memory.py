"""How far memory has risen: of a GPU its allocator's peak, else the process's highest resident set."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET = "5"  # of clear_refs: the peak becomes the present level (proc(5), Linux 4.0)


class Level:
    """The level of memory at a moment, from which the highest one since `watch` is counted."""

    def __init__(self, device: torch.device) -> None:
        self.gpu = device if device.type == "cuda" else None
        self.before = self._now()

    def watch(self) -> None:
        """Count from here on; what is no longer needed is given back first."""
        gc.collect()
        if self.gpu is not None:
            torch.cuda.reset_peak_memory_stats(self.gpu)
        elif self.before is not None:
            trim()
            reset()

    def risen(self) -> int | None:
        """Bytes from the level to the highest one since `watch`; None where the system tells no peak."""
        if self.before is None:
            return None
        peak = torch.cuda.max_memory_allocated(self.gpu) if self.gpu is not None else resident("VmHWM")
        return max(0, peak - self.before)

    def _now(self) -> int | None:
        if self.gpu is not None:
            return torch.cuda.memory_allocated(self.gpu)
        trim()
        return resident("VmRSS") if reset() else None


def resident(name: str) -> int:
    """A line of /proc/self/status in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None, name
    return 1024 * int(found[1])


def reset() -> bool:
    """Have the peak begin anew; whether the system can."""
    try:
        CLEAR.write_text(RESET)
    except OSError:
        return False
    return True


def trim() -> None:
    """Give memory that earlier runs have freed back to the system, where the C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # not glibc
        return
