"""One attempt at a job in this process, and how it ended: an event, never an error."""

from __future__ import annotations

import signal
import sys
import traceback
from functools import partial

from ftrun.errors import DiskFull, Interrupted, InUse, Paused, UserError, disk_full, memory_told
from ftrun.experiments import making
from ftrun.experiments.queue.job import (
    FAILED,
    FINISHED,
    FULL,
    IN_USE,
    KILLED,
    PAUSED,
    STOPPED,
    Event,
    Job,
)
from ftrun.runs.collector import exempt_libraries
from ftrun.runs.signals import ending_softly
from ftrun.training.pausing import asked


def alone(job: Job) -> Event:
    """How the run ended that this process made, or as one of a group."""
    try:
        with ending_softly(), memory_told(), asked(**job.wishes):
            return Event(job.number, FINISHED, making.one(job.raw, job.path, again=True))
    except BaseException as error:
        return told(job, error)
    finally:
        exempt_libraries()


def told(job: Job, error: BaseException) -> Event:
    """How a run ended early; the reason is printed, and the traceback of a bug, so that log.txt has it."""
    error = disk_full(error, job.path) or error
    reason = " ".join((str(error) or type(error).__name__).split())
    event = partial(Event, job.number, message=reason)
    match error:
        case SystemExit() | GeneratorExit():
            raise error
        case Paused():
            return event(PAUSED)
        case Interrupted():
            return event(STOPPED, signal=error.signum)
        case KeyboardInterrupt():
            return event(STOPPED, message="interrupted", signal=signal.SIGINT)
        case InUse():
            return event(IN_USE)
        case DiskFull():
            return event(FULL)
        case UserError():
            print(f"ftrun: {reason}", file=sys.stderr, flush=True)
            return event(FAILED)
    traceback.print_exception(error)
    trace = "".join(traceback.format_exception(error))
    return event(FAILED, message=f"{type(error).__name__}: {reason}", trace=trace)


def died(job: Job, code: int) -> Event:
    """The event of a job whose process ended with this code: by a signal, or without telling anything."""
    how = f"killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
    hint = ", as the system does when memory is exhausted" if code == -signal.SIGKILL else ""
    return Event(job.number, KILLED, message=f"its process was {how}{hint}")
