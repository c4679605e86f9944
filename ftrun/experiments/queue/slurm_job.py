"""The side of a SLURM job: it makes its runs one after the other, and has itself requeued."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.experiments.queue.job import FAILED, IN_USE, KILLED, STOPPED, Event, Job
from ftrun.experiments.queue.worker import work
from ftrun.runs import warm
from ftrun.runs.streams import outputs

if TYPE_CHECKING:
    from submitit import JobEnvironment

EVENT, BEGUN, VAIN = ".event", ".begun", ".vain"  # files of a ticket
STOP = ".stop"  # of a job: it shall end, and not be requeued
PATIENCE, PAUSE = 300.0, 10.0  # seconds in which the lease of a node that failed runs out; between two tries
MOST = 3  # starts of a job in a row that come to nothing until their time limit


@dataclass(frozen=True)
class Ticket:
    """One start of a run; files of this name in its folder tell how it goes."""

    name: str
    job: Job

    def event(self, folder: Path) -> Event | None:
        """How it ended, once it did."""
        try:
            found: Event = pickle.loads((folder / f"{self.name}{EVENT}").read_bytes())
        except FileNotFoundError:
            return None
        return found

    def tell(self, folder: Path, event: Event) -> None:
        beside = folder / f".{self.name}.{os.getpid()}"
        beside.write_bytes(pickle.dumps(event))
        os.replace(beside, folder / f"{self.name}{EVENT}")

    def has_begun(self, folder: Path) -> bool:
        return (folder / f"{self.name}{BEGUN}").exists()


class Asked:
    """The signals that this process has got: USR1 and USR2 do to a run what TERM does."""

    def __init__(self) -> None:
        self.caught: list[int] = []
        signal.signal(signal.SIGTERM, self.remember)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self.pass_on)

    def remember(self, number: int, frame: Any) -> None:
        self.caught.append(number)

    def pass_on(self, number: int, frame: Any) -> None:
        """To whoever heeds TERM at the moment; the first only, as the next would break off its saving."""
        self.caught.append(number)
        if len(self.caught) == 1:
            signal.raise_signal(signal.SIGTERM)

    @property
    def before_the_limit(self) -> bool:
        """Whether it was by the signal that SLURM sends before the time limit."""
        return not {signal.SIGUSR1, signal.SIGUSR2}.isdisjoint(self.caught)


def make(folder: Path, tickets: list[Ticket]) -> None:
    """Make the runs of these tickets that have no event yet, and leave one of each.

    USR1, USR2 and TERM have a run save and end. The job is then requeued, to go on with what is left, except
    where the driver had it stopped, or where SLURM has decided already: after scancel, or as it requeues the
    job by itself.
    """
    from submitit import JobEnvironment

    asked, environment = Asked(), JobEnvironment()
    stop = folder / f"{environment.job_id}{STOP}"
    tickets[0].job.place.enter()
    before = saved(tickets)
    with warm.shared(), outputs():
        ended = make_all(folder, tickets, stop, asked)
    left = [ticket for ticket in tickets if ticket.event(folder) is None]
    if not left:
        return
    if stop.exists():
        stopped(folder, left, "it saved and ended, as the sweep was stopped")
    elif asked.before_the_limit and in_vain(folder, left[0], ended or saved(tickets) != before):
        reason = f"its job came {MOST} times to its time limit without anything new saved"
        left[0].tell(folder, Event(left[0].job.number, FAILED, message=f"{reason}; possible: {LONGER}"))
        go_on(folder, left[1:], environment)
    elif asked.before_the_limit or is_running(environment):
        go_on(folder, left, environment)
    else:
        sys.exit(-1)


def make_all(folder: Path, tickets: list[Ticket], stop: Path, asked: Asked) -> bool:
    """Those that have no event yet, until the job is asked to end; whether any came to its end."""
    ended = False
    for ticket in tickets:
        if ticket.event(folder) is not None:
            continue
        if asked.caught or stop.exists():
            break
        (folder / f"{ticket.name}{BEGUN}").touch()
        event = made(ticket.job, asked)
        if event.state == STOPPED or event.state == KILLED and asked.caught:
            break
        ticket.tell(folder, event)
        ended = True
    return ended


def made(job: Job, asked: Asked) -> Event:
    """How the run ended. Who had it before SLURM began the job anew is gone: its lease runs out."""
    event = work(job)
    end = time.monotonic() + PATIENCE if "SLURM_RESTART_COUNT" in os.environ else 0.0
    while event.state == IN_USE and time.monotonic() < end and not asked.caught:
        time.sleep(PAUSE)
        event = work(job)
    return event


LONGER = "a longer hydra.launcher.timeout_min, or a smaller train.checkpoint_every"


def stopped(folder: Path, tickets: list[Ticket], message: str) -> None:
    for ticket in tickets:
        ticket.tell(folder, Event(ticket.job.number, STOPPED, message=message))


def saved(tickets: list[Ticket]) -> set[tuple[str, int]]:
    """The checkpoints that there are: a new one is another."""
    found = set()
    for ticket in tickets:
        for path in ticket.job.path.rglob("checkpoints/*"):
            with suppress(FileNotFoundError):
                found.add((str(path), path.stat().st_mtime_ns))
    return found


def in_vain(folder: Path, ticket: Ticket, something: bool) -> bool:
    """Whether too many starts in a row have come to nothing, this one included."""
    file = folder / f"{ticket.name}{VAIN}"
    count = 0 if something else int(file.read_text() if file.exists() else 0) + 1
    file.write_text(str(count))
    return count >= MOST


def is_running(environment: JobEnvironment) -> bool:
    """Whether the job still runs for SLURM, which has not ended or requeued it: TERM came at a preemption's
    beginning, or from a person."""
    if environment.name() != "slurm":
        return True
    words = ["scontrol", "show", "job", environment.job_id]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
    return "JobState=RUNNING" in said


def go_on(folder: Path, tickets: list[Ticket], environment: JobEnvironment) -> None:
    """Have SLURM queue this job anew under its number; where it does not, the driver gets its runs back."""
    if not tickets:
        return
    try:
        environment._requeue(
            0
        )  # scontrol requeue; of submitit's local processes, the code that starts one anew
    except (subprocess.SubprocessError, OSError) as error:
        stopped(folder, tickets, f"it saved and ended; scontrol requeue does not take its job: {error}")
    sys.exit(-1)
