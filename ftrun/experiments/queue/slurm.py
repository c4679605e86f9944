"""The engine of SLURM, through submitit: runs are jobs of an array, or many short ones a job each."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError, counted
from ftrun.experiments.queue.job import FAILED, KILLED, STOPPED, Event, Job
from ftrun.experiments.queue.slurm_job import EVENT, STOP, Ticket
from ftrun.experiments.queue.slurm_settings import SlurmSettings
from ftrun.runs.run import Run

if TYPE_CHECKING:
    from ftrun.experiments.queue.slurm_cluster import Cluster

FOLDER = ".slurm"  # in the sweep's directory: tickets, scripts and what jobs print outside of their runs
CLOSED = "closed"  # in a driver's folder, all of whose jobs have ended
LOOK = 1.0  # seconds between two looks at the tickets
GRACE = 10.0  # seconds in which a ticket may come late, over a network file system


@dataclass
class Chunk:
    """A job of SLURM with its runs."""

    folder: Path
    tickets: dict[str, Ticket]  # that have no event yet
    gone: float = 0.0  # when SLURM was first heard to have ended it


@dataclass
class Slurm(SlurmSettings):
    """`hydra/launcher=slurm`."""

    inside: ClassVar[bool] = False
    waiting: deque[Job] = field(init=False, default_factory=deque)
    chunks: dict[str, Chunk] = field(init=False, default_factory=dict)  # by the number of the job
    numbers: Iterator[int] = field(init=False, default_factory=count)
    events: list[Event] = field(init=False, default_factory=list)
    earlier: dict[Path, tuple[str, Path, Ticket]] = field(
        init=False, default_factory=dict
    )  # of drivers that have gone
    folders: set[Path] = field(init=False, default_factory=set)
    stopping: bool = field(init=False, default=False)
    looked: float = field(init=False, default=float("-inf"))
    submitted: float = field(init=False, default=float("-inf"))

    def open(self, directory: Path, jobs: list[Job], expected: int) -> None:
        self.expected = -(-expected // self.runs_per_job)
        self.top = directory / FOLDER
        self.folder = self.top / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.uname().nodename}-{os.getpid()}"
        try:
            from ftrun.experiments.queue.slurm_cluster import Processes, Scheduler, going_on
        except ImportError:
            raise ConfigError("hydra/launcher=slurm needs submitit: pip install 'ftrun[slurm]'") from None
        self.link: Cluster = Scheduler(self) if self.cluster == "slurm" else Processes(self)
        folders = [folder for folder in sorted(self.top.glob("*")) if not (folder / CLOSED).exists()]
        self.earlier = going_on(folders, self.link)
        self.folders = {self.folder, *folders}

    def workers(self) -> int:
        return max(1, min(self.array_parallelism, self.expected))

    def describe(self) -> str:
        gpus = f" and {counted(self.gpus_per_node, 'GPU')}" if self.gpus_per_node else ""
        each = f", {self.runs_per_job} runs a job" if self.runs_per_job > 1 else ""
        who = "SLURM" if self.cluster == "slurm" else "processes that submitit starts here"
        return (
            f"by {who}: at most {counted(self.array_parallelism, 'job')} at the same time, of"
            f" {counted(self.cpus_per_task, 'core')}{gpus} and {counted(self.timeout_min, 'minute')}{each}"
        )

    def jobs_now(self) -> int:
        """How many jobs more: an array as large as SLURM takes, then what keeps to the parallelism."""
        if not self.chunks and self.cluster == "slurm":
            return self.array_size
        return max(0, self.array_parallelism - len(self.chunks))

    def room(self) -> int:
        return max(0, self.jobs_now() * self.runs_per_job - len(self.waiting))

    def start(self, job: Job) -> None:
        number, folder, ticket = self.earlier.pop(job.path, ("", self.folder, None))
        if ticket is None or ticket.job.key != job.key:
            self.waiting.append(job)
            return
        if ticket.event(folder) is not None and not Run(job.path).finished:  # deleted since
            self.waiting.append(job)
            return
        chunk = self.chunks.setdefault(number, Chunk(folder, {}))
        chunk.tickets[ticket.name] = replace(ticket, job=job)

    def wait(self, seconds: float) -> list[Event]:
        self.submit()
        end = time.monotonic() + seconds
        while True:
            self.look()
            left = end - time.monotonic()
            if self.events or left <= 0:
                events, self.events = self.events, []
                return events
            time.sleep(min(left, LOOK))

    def submit(self) -> None:
        """Give SLURM what waits, all at once; later ones not oftener than it is asked."""
        now, most = time.monotonic(), self.jobs_now()
        early = self.chunks and now < self.submitted + self.interval and self.cluster == "slurm"
        if not self.waiting or early or not most:
            return
        self.submitted = now
        self.folder.mkdir(parents=True, exist_ok=True)
        taken = [self.waiting.popleft() for _ in range(min(len(self.waiting), most * self.runs_per_job))]
        tickets = [Ticket(f"{next(self.numbers)}-{job.number}", job) for job in taken]
        step = self.runs_per_job
        parts = [tickets[first : first + step] for first in range(0, len(tickets), step)]
        try:
            numbers = self.link.submit(self.folder, parts)
        except ConfigError:
            self.waiting.extendleft(reversed(taken))
            if not self.chunks:  # else more than it takes of one person: later
                raise
            return
        for number, part in zip(numbers, parts, strict=True):
            self.chunks[number] = Chunk(self.folder, {ticket.name: ticket for ticket in part})

    def look(self) -> None:
        """Collect the events that jobs have left, and what SLURM says of jobs that left none."""
        now = time.monotonic()
        if now < self.looked + LOOK:
            return
        self.looked = now
        there = {
            folder: set(os.listdir(folder)) for folder in {chunk.folder for chunk in self.chunks.values()}
        }
        for number, chunk in list(self.chunks.items()):
            for ticket in list(chunk.tickets.values()):
                if f"{ticket.name}{EVENT}" in there[chunk.folder]:
                    event = ticket.event(chunk.folder)
                    assert event is not None
                    self.events.append(replace(event, number=ticket.job.number))
                    del chunk.tickets[ticket.name]
            if not chunk.tickets:
                del self.chunks[number]
            elif state := self.link.ended(number, chunk.folder):
                chunk.gone = chunk.gone or now
                os.utime(chunk.folder)  # a network file system then lists it anew
                if now >= chunk.gone + GRACE:
                    self.lost(number, chunk, state)
            else:
                chunk.gone = 0.0

    def lost(self, number: str, chunk: Chunk, state: str) -> None:
        """A job that ended without a word on these runs; those that had not begun wait again."""
        del self.chunks[number]
        tickets = list(chunk.tickets.values())
        if self.stopping:
            self.tell(tickets, STOPPED, "it had not begun")
        elif state.startswith("CANCELLED"):
            self.tell(tickets, FAILED, f"its job {number} was cancelled ({state}); the same command goes on")
        else:
            begun = [ticket for ticket in tickets if ticket.has_begun(chunk.folder)]
            self.tell(begun or tickets, KILLED, self.why(number, chunk, state))
            self.waiting.extend(ticket.job for ticket in tickets if begun and ticket not in begun)

    def why(self, number: str, chunk: Chunk, state: str) -> str:
        from ftrun.experiments.queue.slurm_cluster import last_words

        said = last_words(chunk.folder, number)
        hints = {
            "OUT_OF_MEMORY": f"; possible: hydra.launcher.mem_gb={self.mem_gb or 'null'} higher",
            "TIMEOUT": f"; possible: hydra.launcher.timeout_min={self.timeout_min} or"
            f" signal_delay_s={self.signal_delay_s} higher",
        }
        last = f": {said}" if said else ""
        return f"its job {number} ended as {state}{hints.get(state.split()[0], last)}"

    def tell(self, tickets: list[Ticket], state: str, message: str) -> None:
        self.events += [Event(ticket.job.number, state, message=message) for ticket in tickets]

    def stop(self) -> None:
        self.stopping, self.looked = True, float("-inf")
        self.events += [Event(job.number, STOPPED, message="it had not begun") for job in self.waiting]
        self.waiting.clear()
        for number, chunk in self.chunks.items():
            (chunk.folder / f"{number}{STOP}").touch()
        if self.chunks:
            self.link.stop(list(self.chunks))

    def close(self) -> None:
        if self.chunks:
            self.link.kill(list(self.chunks))
        for folder in self.folders - {folder for _, folder, _ in self.earlier.values()}:
            if folder.is_dir() and not self.chunks:
                (folder / CLOSED).touch()
        self.chunks.clear()
