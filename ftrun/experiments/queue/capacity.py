"""How many runs a machine can make at the same time: by its cores, its memory and its GPUs."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import UserError
from ftrun.experiments.queue.inheriting import inherited

if TYPE_CHECKING:
    from ftrun.experiments.queue.job import Job

LOOKED_AT = 200  # runs, about, of which the largest is looked for
KINDS = 8  # of them that are measured, at most
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Room:
    """What a machine has for runs."""

    cores: int
    memory: float  # bytes that are free
    gpus: list[str]  # as CUDA_VISIBLE_DEVICES names them; none where the runs do not use them
    needed: float  # bytes of one run; 0 where memory does not decide

    @property
    def by(self) -> dict[str, int]:
        """How many runs each of them allows."""
        if self.gpus:
            return {"GPUs": len(self.gpus)}
        memory = {"memory": int(self.memory // self.needed)} if self.needed else {}
        return {"cores": self.cores} | memory

    @property
    def runs(self) -> int:
        return max(1, min(self.by.values()))

    @property
    def bound(self) -> str:
        """What allows no more."""
        return min(self.by, key=lambda name: self.by[name])


def measure(jobs: Sequence[Job], expected: int) -> Room:
    """The room on this machine for so many runs like these, each in a process of its own."""
    processes = jobs[0].processes
    gpus = [] if jobs[0].raw["device"] == "cpu" else visible_gpus()
    most = max(1, cores() // processes)
    least = 0.0 if gpus or min(most, expected) == 1 else processes * needed(jobs)
    return Room(most, memory(), gpus[:: max(1, processes)], least)


def cores() -> int:
    """The cores that this process may use, a container's share included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = read(CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        count = min(count, max(1, round(int(quota[0]) / int(quota[1]))))
    return count


def memory() -> float:
    """The bytes that are free, at most what a container has left."""
    import psutil

    free = float(psutil.virtual_memory().available)
    limit, used = read(CGROUP / "memory.max"), read(CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        reclaimable = sum(
            int(line.split()[1])
            for line in read(CGROUP / "memory.stat").splitlines()
            if line.startswith("inactive_file ")
        )
        free = min(free, float(int(limit) - int(used) + reclaimable))
    return free


def read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def visible_gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, else all; torch is asked only where a driver is there."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each for each in named.split(",") if each.strip() and each.strip() != "-1"]
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return []
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def needed(jobs: Sequence[Job]) -> float:
    """The bytes of a process that makes the largest of these runs, as `ftrun plan` tells them.

    Measured on networks without weights, in a process of its own, as a driver has no use for torch; in this
    one where it is there already. A network that cannot be had counts for nothing: its run will say so.
    """
    kinds: dict[str, dict[str, Any]] = {}
    for job in jobs[:: max(1, len(jobs) // LOOKED_AT)]:
        raw = job.raw
        train = raw["train"]["batch_size"], raw["train"]["micro_batch"]
        kinds.setdefault(repr([raw["strategy"], raw["model"], raw["task"], train]), raw)
    raws = [*kinds.values()][:KINDS]
    if "torch" in sys.modules:
        return largest(raws)
    with inherited({}), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(largest, raws).result()


def largest(raws: list[dict[str, Any]]) -> float:
    """The most bytes that a process with one of these settings takes."""
    from ftrun.experiments.study.fitting import PROCESS, needed_bytes
    from ftrun.settings.read import read

    found = [float(PROCESS)]
    for raw in raws:
        with suppress(UserError):
            found.append(float(needed_bytes(read(raw))))
    return max(found)
