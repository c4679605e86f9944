"""The driver of a sweep hands out what is not finished, hears how runs end, and alone writes the ledger."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftrun.errors import DiskFull, Interrupted
from ftrun.experiments.queue.job import FAILED, FINISHED, FULL, IN_USE, KILLED, STOPPED, Event
from ftrun.experiments.queue.places import place_for, vacate
from ftrun.runs.run import Run, is_run
from ftrun.runs.signals import interruptions

if TYPE_CHECKING:
    from ftrun.experiments.queue.engine import Engine
    from ftrun.experiments.queue.job import Job
    from ftrun.experiments.queue.telling import Telling
    from ftrun.runs.ledger import Ledger

PATIENCE = 0.5  # seconds without an event until the driver looks whether it was asked to stop
LOOK = 3.0  # seconds between two looks at runs that another process makes


@dataclass
class Driver:
    """One sweep, in the process that the person started; workers know a run's directory and no more."""

    engine: Engine
    ledger: Ledger
    telling: Telling
    retries: int  # how often a run whose process died is taken up again
    waiting: deque[Job] = field(default_factory=deque)
    running: dict[int, Job] = field(default_factory=dict)
    elsewhere: list[Job] = field(default_factory=list)  # runs that other processes are making
    ended: dict[int, Event] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    looked: float = 0.0

    def run(self, jobs: list[Job]) -> dict[int, Event]:
        """Have all of them made that are not finished; number → how it ended.

        Raises Interrupted or KeyboardInterrupt where a signal ended the sweep, DiskFull where a disk did.
        """
        self.waiting.extend(job for job in jobs if not self.finished_before(job))
        if not self.waiting:
            return self.ended
        try:
            self.engine.open(self.ledger.directory, list(self.waiting))
            self.telling.opened(self.engine.describe(), self.engine.workers())
            if self.engine.inside:
                self.work([])
            else:
                with interruptions() as caught:
                    self.work(caught)
        finally:
            self.engine.close()
        return self.ended

    def work(self, caught: list[int]) -> None:
        """Hand out and hear until nothing is left; `caught` gets the signals that end it early."""
        while self.waiting or self.running or self.elsewhere:
            if caught:
                self.end(f"{len(self.running)} running" if self.running else "")
                raise Interrupted("the sweep was stopped; every run that had begun is saved", caught[0])
            self.hand_out()
            for event in self.engine.wait(PATIENCE if self.running else LOOK):
                self.hear(event)

    def end(self, what: str) -> None:
        """Have all that runs save and end."""
        if what:
            self.telling.say(f"stopping: {what}, each saves and ends; Ctrl-C again ends them at once")
        self.engine.stop()
        self.waiting.clear()
        while self.running:
            for event in self.engine.wait(PATIENCE):
                job = self.running.pop(event.number)
                if event.state == FINISHED:
                    self.note(job, event)

    def hand_out(self) -> None:
        """Start as many as the engine takes, except what is finished by now or being made elsewhere."""
        self.look_elsewhere()
        for _ in range(len(self.waiting)):
            if not self.engine.room():
                return
            job = self.waiting.popleft()
            if self.finished_before(job):
                continue
            if any(job.key == each.key for each in (*self.running.values(), *self.elsewhere)):  # seed=0,0
                self.waiting.append(job)
                continue
            job = place_for(job, self.ledger)
            if made_elsewhere(job):
                self.leave(job)
                continue
            self.running[job.number] = job
            if not self.engine.inside:
                self.telling.begin(job)
            self.engine.start(job)

    def finished_before(self, job: Job) -> bool:
        """Whether the ledger has its result, which is then told."""
        there = self.ledger.place_of(job.key)
        if there is None:
            return False
        vacate(job.path)
        self.ended[job.number] = Event(job.number, FINISHED)
        self.telling.there(job, there)
        return True

    def look_elsewhere(self) -> None:
        """Take back what another process no longer makes."""
        if not self.elsewhere or time.monotonic() < self.looked + LOOK:
            return
        self.looked = time.monotonic()
        before, self.elsewhere = self.elsewhere, []
        for job in before:
            (self.elsewhere if made_elsewhere(job) else self.waiting).append(job)

    def leave(self, job: Job, why: str = "") -> None:
        """Another process makes this one: it may finish, or die and leave it to us."""
        self.telling.elsewhere(job, why)
        self.elsewhere.append(job)

    def hear(self, event: Event) -> None:
        """Note how a run ended, or put it back into the queue."""
        job = self.running.pop(event.number)
        if event.state == IN_USE:
            self.leave(job, event.message)
        elif event.state == FULL:
            self.end("a disk is full")
            raise DiskFull(event.message)
        elif event.state in (KILLED, STOPPED) and self.goes_on(job, event):
            self.waiting.append(job)
        else:
            self.note(job, event)

    def goes_on(self, job: Job, event: Event) -> bool:
        """Whether a run whose process ended is taken up once more, which is told."""
        count = self.deaths[job.number] = self.deaths.get(job.number, 0) + 1
        if count > self.retries:
            return False
        self.telling.again(job, event, count, self.retries)
        return True

    def note(self, job: Job, event: Event) -> None:
        """Write its end into the ledger, and tell it."""
        state, message = (FINISHED, "") if event.state == FINISHED else (FAILED, event.message)
        self.ledger.write(job.key, job.path, state, message)
        self.ended[job.number] = event
        self.telling.done(job, event)


def made_elsewhere(job: Job) -> bool:
    """Whether another process is making the run."""
    return is_run(job.path) and Run(job.path).state == "running"
