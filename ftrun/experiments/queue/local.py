"""The engine of this machine's processes: each makes run after run, and one that is killed is replaced."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.errors import ConfigError, counted
from ftrun.experiments.queue import capacity
from ftrun.experiments.queue.attempt import died
from ftrun.experiments.queue.inheriting import follow, inherited
from ftrun.experiments.queue.job import Event, Job, Place
from ftrun.experiments.queue.worker import work

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

ENDING = 5.0  # seconds that an idle process has to end
# what numerical libraries read when they are imported: how many threads they may have
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Slot:
    """Room for one run at a time, with the process that makes it."""

    environment: dict[str, str]
    process: BaseProcess | None = None
    line: Connection | None = None
    job: Job | None = None

    def start(self, job: Job) -> None:
        """Send the job to the process, which begins with its first."""
        if self.process is None or not self.process.is_alive():
            self.begin(job.place)
        self.job = job
        assert self.line is not None
        with suppress(BrokenPipeError):  # it has just been killed, which `wait` will find
            self.line.send(job)

    def begin(self, place: Place) -> None:
        """Start the process. Ctrl-C of a terminal reaches it too, and is for the driver alone."""
        context = multiprocessing.get_context("spawn")
        self.line, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, place, os.getpid()), name="ftrun worker")
        resource_tracker.ensure_running()  # which unblocks SIGINT when it starts
        with inherited(self.environment):
            self.process.start()
        other.close()

    def ready(self) -> list[Any]:
        """What `wait` waits for: the event of the job, or the death of the process."""
        return [] if self.job is None else [self.line, self.process.sentinel]  # type: ignore[union-attr]

    def event(self, found: list[Any]) -> Event | None:
        """The event of the job, where it has come to its end."""
        if self.job is None or self.process is None or self.line is None:
            return None
        job = self.job
        if self.line in found:
            with suppress(EOFError, OSError):
                event: Event = self.line.recv()
                self.job = None
                return event
        if self.line in found or self.process.sentinel in found:
            self.process.join()
            self.job = None
            return died(job, self.process.exitcode or 0)
        return None

    def end(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            if self.job is None and self.line is not None:
                with suppress(BrokenPipeError):
                    self.line.send(None)
                self.process.join(ENDING)
            self.process.kill()
            self.process.join()
            self.process = None


def serve(line: Connection, place: Place, driver: int) -> None:
    """A worker's life: it makes what comes along the line until None comes, or the driver has gone.

    Then the run under way is saved: nobody would stop it, and the command, repeated, would wait for it.
    """
    from ftrun.runs import warm
    from ftrun.runs.streams import outputs

    follow(driver)
    place.enter()
    warm.begin()
    with outputs(), suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while (job := line.recv()) is not None:
            line.send(work(job))


@dataclass
class Local:
    """`hydra/launcher=local`: as many processes as the machine has room for."""

    inside: ClassVar[bool] = False
    n_jobs: int | str  # auto: as many as cores, memory and GPUs allow
    threads: int | str  # of each run on a CPU; auto: the cores, shared out
    slots: list[Slot] = field(init=False, default_factory=list)
    said: str = field(init=False, default="")

    def __post_init__(self) -> None:
        for name in ("n_jobs", "threads"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value != "auto" and not (whole and (value > 0 or (value == -1 and name == "n_jobs"))):
                raise ConfigError(f"hydra.launcher.{name}={value}: possible: auto, or a number from 1")

    def open(self, directory: Path, jobs: list[Job], expected: int) -> None:
        automatic = self.n_jobs in ("auto", -1)
        room = capacity.measure(jobs, expected if automatic else 1)
        count = max(1, min(room.runs if automatic else int(self.n_jobs), expected))
        threads = max(1, room.cores // count) if self.threads == "auto" else int(self.threads)
        own = dict.fromkeys(THREADS, str(threads))
        gpus = room.gpus if jobs[0].processes == 1 else []
        self.slots = [
            Slot(own | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}))
            for number in range(count)
        ]
        what = f"{counted(count, 'process', 'processes')} of {counted(threads, 'thread')}"
        bound = f", as many as {room.bound} allow" if self.n_jobs == "auto" and count == room.runs else ""
        self.said = f"by {what}{', a GPU each' if gpus else ''}{bound}"

    def workers(self) -> int:
        return len(self.slots)

    def room(self) -> int:
        return sum(slot.job is None for slot in self.slots)

    def start(self, job: Job) -> None:
        free = [slot for slot in self.slots if slot.job is None]
        begun = [slot for slot in free if slot.process is not None]
        (begun or free)[0].start(job)

    def wait(self, seconds: float) -> list[Event]:
        found = wait([each for slot in self.slots for each in slot.ready()], seconds)
        events = [slot.event(found) for slot in self.slots]
        return [event for event in events if event is not None]

    def stop(self) -> None:
        for slot in self.slots:
            if slot.job is not None and slot.process is not None:
                slot.process.terminate()

    def close(self) -> None:
        for slot in self.slots:
            slot.end()

    def describe(self) -> str:
        return self.said
