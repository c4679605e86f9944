"""What has runs made: in this process, in processes of this machine, by Ray or by SLURM."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.experiments.queue.job import Event, Job


class Engine(Protocol):
    """Runs jobs and tells how they end, in one event for each start. One driver calls it, in one thread.

    It is a dataclass of its settings, those of conf/hydra/launcher/NAME.yaml, whose `_target_` names it, but
    `processes`, `max_retries` and `dry` are the driver's. A job that dies is told as KILLED
    and not started again: how often, is the driver's. It writes nothing into a run's directory.
    """

    inside: ClassVar[bool]  # whether it is this process, where a signal raises what it raises in a run

    def open(self, directory: Path, jobs: list[Job], expected: int) -> None:
        """Make ready for these jobs, before any is started; `directory` is the sweep's.

        `expected` is how many runs there will be, about, with those that are found out on the way.

        Raises ConfigError for settings that cannot be had, and UserError where nobody is there to work.
        """

    def room(self) -> int:
        """How many more jobs it takes now."""

    def start(self, job: Job) -> None:
        """Take a job; returns at once, or when it has ended where the engine is this process."""

    def wait(self, seconds: float) -> list[Event]:
        """What ended since the last call; waits for the first at most so long."""

    def stop(self) -> None:
        """Have every run that has begun save and end, and none begin; their events still come, as STOPPED."""

    def close(self) -> None:
        """End at once whatever still runs, and give back processes and machines; harmless if called twice."""

    def workers(self) -> int:
        """How many runs are made at the same time, as far as is known; for the time that is left."""

    def describe(self) -> str:
        """Who makes the runs, behind "runs are made": "by 2 processes of 1 thread"."""
