"""The engine that is this process: one run after the other, which share what they have in common."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import Interrupted
from ftrun.experiments.queue.job import STOPPED, Event, Job
from ftrun.experiments.queue.worker import work
from ftrun.runs import warm

if TYPE_CHECKING:
    from ftrun.experiments.study.board import Board


@dataclass
class Here:
    """`hydra/launcher=here`, which a sweep has where nothing else is asked for."""

    inside: ClassVar[bool] = True
    board: Board
    ended: list[Event] = field(default_factory=list)
    began: bool = False

    def open(self, directory: Path, jobs: list[Job], expected: int) -> None:
        self.began = warm.begin()

    def room(self) -> int:
        return 0 if self.ended else 1

    def start(self, job: Job) -> None:
        """Make it. Raises KeyboardInterrupt where a signal ended it."""
        with self.board.running(str(job.number), job.title) as watch:
            event = work(job, watch)
        if event.state == STOPPED:
            raise Interrupted(event.message, event.signal)
        self.ended.append(event)

    def wait(self, seconds: float) -> list[Event]:
        if not self.ended:  # all that is left is made by other processes
            time.sleep(seconds)
        ended, self.ended = self.ended, []
        return ended

    def stop(self) -> None:
        """Nothing runs when it is called."""

    def close(self) -> None:
        if self.began:
            warm.end()

    def workers(self) -> int:
        return 1

    def describe(self) -> str:
        return "one after the other in this process"
