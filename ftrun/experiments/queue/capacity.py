"""How many runs a machine can make at the same time: by its cores, its memory and its GPUs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftrun.experiments.queue.job import Job

PROCESS = 800e6  # bytes of a process that has imported torch and transformers, and of a small network in it
COPIES = 5  # of the weights in training: they, gradients, two moments, and what a step computes
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Room:
    """What a machine has for runs."""

    cores: int
    memory: float  # bytes that are free
    gpus: list[str]  # as CUDA_VISIBLE_DEVICES names them; none where the runs do not use them
    needed: float  # bytes of one run

    @property
    def by(self) -> dict[str, int]:
        """How many runs each of them allows."""
        if self.gpus:
            return {"GPUs": len(self.gpus)}
        return {"cores": self.cores, "memory": int(self.memory // self.needed)}

    @property
    def runs(self) -> int:
        return max(1, min(self.by.values()))

    @property
    def bound(self) -> str:
        """What allows no more."""
        return min(self.by, key=lambda name: self.by[name])


def measure(job: Job) -> Room:
    """The room on this machine for runs like this one, each in a process of its own."""
    raw, processes = job.raw, job.processes
    gpus = [] if raw["device"] == "cpu" else visible_gpus()
    return Room(max(1, cores() // processes), memory(), gpus[:: max(1, processes)], processes * needed(raw))


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


def needed(raw: dict[str, Any]) -> float:
    """The bytes that a run of these settings takes at most, roughly."""
    weights = sum(file.stat().st_size for file in weight_files(str(raw["model"]["name"])))
    return PROCESS + COPIES * weights


def weight_files(name: str) -> list[Path]:
    place = Path(name).expanduser()
    return [*place.glob("*.safetensors"), *place.glob("*.bin")] if place.is_dir() else []
