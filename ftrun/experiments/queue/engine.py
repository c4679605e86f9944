"""What has runs made: in this process, in processes of this machine, by Ray or by SLURM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ftrun.experiments.queue.job import Event, Job


class Engine(Protocol):
    """Runs jobs and tells how they end. One driver calls it, from one thread; a job has one event for each start.

    An engine starts a job once for each `start`: starting it again, and how often, is the driver's. It writes
    nothing but what a run itself writes into its directory.
    """

    def room(self) -> int:
        """How many more jobs it takes now."""

    def start(self, job: Job) -> None:
        """Take a job; returns at once, or when it has ended where the engine is this process."""

    def wait(self, seconds: float) -> list[Event]:
        """What ended since the last call; waits for the first at most so long."""

    def stop(self) -> None:
        """Have every run that has begun save and end, and none begin; their events still come."""

    def close(self) -> None:
        """End at once whatever still runs, and give back processes and machines; harmless if called twice."""

    def describe(self) -> str:
        """Who makes the runs, in a line: "2 processes, 1 thread each"."""
