"""The driver of many runs hands out what is not finished, hears how runs end, and alone writes the ledger."""

from __future__ import annotations

import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftrun.errors import DiskFull, Interrupted, UserError
from ftrun.experiments.making import refusal
from ftrun.experiments.queue.job import FAILED, FINISHED, FULL, IN_USE, KILLED, PAUSED, STOPPED, Event
from ftrun.experiments.queue.places import finished_unnoted, place_for, vacate, waits
from ftrun.runs.run import Run, is_run
from ftrun.runs.signals import interruptions, uninterrupted

if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.experiments.queue.engine import Engine
    from ftrun.experiments.queue.job import Job
    from ftrun.experiments.queue.telling import Telling
    from ftrun.runs.ledger import Ledger

PATIENCE = 0.5  # seconds without an event until the driver looks whether it was asked to stop
LOOK = 3.0  # seconds between two looks at runs that another process makes


def nothing(job: Job, event: Event) -> list[Job]:
    """No run follows from another."""
    return []


@dataclass
class Driver:
    """A sweep or a study, in the process that was started; workers know a run's directory and no more."""

    engine: Engine
    ledger: Ledger
    telling: Telling
    retries: int  # how often a run whose process died is taken up again
    following: Callable[[Job, Event], list[Job]] = nothing  # what can begin now that a run has ended
    waiting: deque[Job] = field(default_factory=deque)
    running: dict[int, Job] = field(default_factory=dict)
    elsewhere: list[Job] = field(default_factory=list)  # runs that other processes are making
    ended: dict[int, Event] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    looked: float = 0.0

    def run(self, jobs: list[Job]) -> dict[int, Event]:
        """Have all of them made that are not finished, and those that follow; number → how it ended.

        Raises KeyboardInterrupt where a signal ended it, DiskFull where a disk did.
        """
        self.add(jobs)
        if not self.waiting:
            return self.ended
        try:
            self.engine.open(self.ledger.directory, list(self.waiting), self.telling.board.pending.total())
            self.telling.opened(self.engine.describe(), self.engine.workers())
            if self.engine.inside:
                self.work([])
            else:
                with interruptions() as caught:
                    self.work(caught)
        finally:
            with uninterrupted():  # a process that is left would be waited for as long as it waits for a job
                self.engine.close()
        return self.ended

    def add(self, jobs: list[Job]) -> None:
        """Queue these and what follows from them, but for what has ended or cannot be made, which is told."""
        new = deque(jobs)
        refused: dict[str, list[Job]] = {}
        while new:
            job = new.popleft()
            event = self.ended_before(job)
            if event is None and (reason := refusal(job.raw, job.path)):
                refused.setdefault(reason, []).append(job)
                event = Event(job.number, FAILED, message=reason)
                self.ledger.write(job.key, job.path, FAILED, reason)
            if event is None:
                self.queue(job)
            else:
                self.ended[job.number] = event
                new.extend(self.following(job, event))
        for reason, alike in refused.items():
            self.telling.refused(alike, reason, others=bool(self.waiting or self.running))

    def queue(self, job: Job) -> None:
        """Put it behind those that are to begin before it."""
        insort(self.waiting, job, key=lambda each: each.rank)

    def work(self, caught: list[int]) -> None:
        """Hand out and hear until nothing is left; `caught` gets the signals that end it early."""
        while self.waiting or self.running or self.elsewhere:
            if caught:
                self.end(f"{len(self.running)} running" if self.running else "")
                raise Interrupted("stopped; every run that had begun is saved", caught[0])
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
        alike: list[Job] = []  # of equal runs, such as seed=0,0, one is made
        while self.waiting and self.engine.room():
            job = self.waiting.popleft()
            if any(job.key == each.key for each in (*self.running.values(), *self.elsewhere)):
                alike.append(job)
            elif (event := self.ended_before(job)) is not None:
                self.go_on(job, event)
            elif made_elsewhere(job := place_for(job, self.ledger)):
                self.leave(job)
            else:
                self.running[job.number] = job
                if not self.engine.inside:
                    self.telling.begin(job)
                self.engine.start(job)
        self.waiting.extendleft(reversed(alike))

    def ended_before(self, job: Job) -> Event | None:
        """How a run has ended already, which is told; None where it is to be made."""
        if (there := self.place_of(job)) is not None:
            vacate(job.path)
            try:
                self.telling.there(job, there)
            except UserError as error:  # its result is damaged
                self.telling.done(job, event := Event(job.number, FAILED, message=str(error)))
                return event
            return Event(job.number, FINISHED)
        if job.may_wait and is_run(job.path):
            entry = self.ledger.entry(job.key) or {}
            if waits(job.path) or entry.get("state") == STOPPED:
                return Event(job.number, PAUSED)
        return None

    def place_of(self, job: Job) -> Path | None:
        """Where the run has finished; where the ledger does not know it yet, that is noted."""
        there = self.ledger.place_of(job.key)
        if there is None and (there := finished_unnoted(job, self.ledger)) is not None:
            self.ledger.write(job.key, there, FINISHED)
        return there

    def look_elsewhere(self) -> None:
        """Take back what another process no longer makes."""
        if not self.elsewhere or time.monotonic() < self.looked + LOOK:
            return
        self.looked = time.monotonic()
        before, self.elsewhere = self.elsewhere, []
        for job in before:
            self.elsewhere.append(job) if made_elsewhere(job) else self.queue(job)

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
            self.queue(job)
        elif event.state == PAUSED:
            self.telling.paused(job)
            self.go_on(job, event) if job.may_wait else self.queue(job)
        else:
            self.note(job, event)
            self.go_on(job, event)

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
        self.telling.done(job, event)

    def go_on(self, job: Job, event: Event) -> None:
        """A run has come to its end, or waits: what follows from that can begin."""
        self.ended[job.number] = event
        self.add(self.following(job, event))

    def give_up(self, job: Job, reached: str) -> None:
        """A run that waits will not go on; `reached` says what it had come to."""
        if (self.ledger.entry(job.key) or {}).get("state") != STOPPED:
            self.ledger.write(job.key, job.path, STOPPED, reached)
        self.telling.given_up(job, reached)


def made_elsewhere(job: Job) -> bool:
    """Whether another process is making the run."""
    return is_run(job.path) and Run(job.path).state == "running"
