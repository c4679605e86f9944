"""What a driver hands to a worker, and what it hears of it."""

from __future__ import annotations

import os
import pickle
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FINISHED = "finished"
FAILED = "failed"  # the run itself: made again, it would fail again
KILLED = "killed"  # its process died: made again, it goes on from its checkpoint
STOPPED = "stopped"  # saved and ended, as the driver or a scheduler asked
PAUSED = "paused"  # it waits at a rung, as its job asks: it goes on where it is handed out without it
IN_USE = "in use"  # another process is making it
FULL = "disk full"  # of the run's disk, which others would find full too

RUNS = "runs"  # what the runs of a sweep are, for the time that is left


@dataclass(frozen=True)
class Place:
    """Where the person stands: relative files count from there, own modules are found there."""

    directory: str = field(default_factory=os.getcwd)
    modules: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def enter(self) -> None:
        """Make this process stand there."""
        os.chdir(self.directory)
        sys.path += [each for each in self.modules if each not in sys.path]


@dataclass(frozen=True)
class Packed:
    """The settings of one of very many runs, as what tells them from those of the first."""

    content: bytes
    like: bytes

    @classmethod
    def of(cls, raw: dict[str, Any], first: Packed | None = None) -> Packed:
        """These settings, in a few bytes where they are nearly those of the first."""
        plain = pickle.dumps(raw, protocol=5)
        like = plain if first is None else first.like
        packer = zlib.compressobj(zdict=like)
        return cls(packer.compress(plain) + packer.flush(), like)

    def unpacked(self) -> dict[str, Any]:
        found: dict[str, Any] = pickle.loads(zlib.decompressobj(zdict=self.like).decompress(self.content))
        return found


@dataclass(frozen=True)
class Job:
    """One run: all that a worker has to know of it. It can be pickled."""

    number: int  # in its sweep
    title: str  # what tells it from the others: rank=4 seed=1
    path: Path  # its run directory, absolute
    key: str  # of the ledger
    packed: Packed
    place: Place
    processes: int = 1  # above 1: a torchrun group
    way: str = RUNS  # of those that take as long as each other
    rank: tuple[int, ...] = ()  # the lowest begins first, of equal ones the one that was asked for first
    wishes: dict[str, Any] = field(default_factory=dict)  # what is asked of the run (training/pausing)

    @property
    def raw(self) -> dict[str, Any]:
        """Its resolved settings."""
        return self.packed.unpacked()

    @property
    def may_wait(self) -> bool:
        """Whether it is asked to stop on the way."""
        return bool(self.wishes.get("rungs"))


@dataclass(frozen=True)
class Event:
    """How a job came to an end, for now."""

    number: int
    state: str  # one of the above
    score: float = float("nan")  # the one that chose the best weights
    message: str = ""  # why, in a line
    trace: str = ""  # of a bug
    signal: int = 0  # that stopped it
