"""Several processes that train one run: the first leads, the others take part in what it starts.

Only the first runs a command. What all are needed for it hands out with `together`: each job ends in all of
them before the next begins, in the same way, for a job that fails in one fails in all. They speak through
torch's TCPStore, which torchrun keeps outside of them, so that none of it needs a collective to end.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ftrun.errors import Interrupted, exit_code_of, told
from ftrun.runs import terminal, warm
from ftrun.runs.run import FAILURE, Run, is_run
from ftrun.training.processes.ring import Ring
from ftrun.training.processes.verdict import Lost, Outcome

T = TypeVar("T")

_ring: Ring | None = None


def leaderless() -> bool:
    """Whether no process leads: there is one, or a program of one's own runs ftrun in each of several."""
    return _ring is None


def alone() -> bool:
    """Whether this process does now what the others have no part in."""
    return _ring is not None and not _ring.inside


def together(call: Callable[..., T], *args: Any) -> T:
    """What the call returns, made by all processes at once; where this is the only one, by it.

    Function and arguments are pickled. Raises in all what it ends with in one; Lost where one is gone.
    """
    if _ring is None or _ring.inside:
        return call(*args)
    job = [*sys.path], os.getcwd(), warm.sharing(), pickle.dumps((call, args))
    _ring.peers.store.set(f"job/{_ring.jobs + 1}", pickle.dumps(job))
    return _ring.take_part(call, args)


@contextmanager
def joined(gpu: bool) -> Iterator[None]:
    """Inside there is a process group for the current job."""
    if _ring is not None:
        _ring.connection.open(gpu)
    yield


def ending() -> None:
    """All have agreed to end for a signal that one got; that this one gets it too now means nothing more."""
    if _ring is not None:
        _ring.over = True


def settled(error: BaseException) -> BaseException:
    """What the job that raised this ends with in all processes."""
    if _ring is None:
        return error
    if _ring.inside:
        return _ring.settled(error) or error
    gone = _ring.peers.gone() if isinstance(error, Interrupted) else {}
    return Lost.of(sorted(gone), _ring.size) if gone else error


@contextmanager
def continued_by(line: str, place: Path | None = None) -> Iterator[None]:
    """The line that continues what is done inside, for the others to say where the first process is gone."""
    if _ring is None or _ring.inside:
        yield
        return
    _ring.places.append((line, "" if place is None else str(place.absolute())))
    _ring.peers.store.set("places", pickle.dumps(_ring.places))
    try:
        yield
    finally:
        _ring.places.pop()
        _ring.peers.store.set("places", pickle.dumps(_ring.places))


def said(message: str) -> None:
    """What this process ends with, for the others and for the table of torchrun."""
    if _ring is not None:
        _ring.message = message
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        import json

        beside = {"py_callstack": message, "timestamp": str(int(time.time()))}
        with suppress(OSError):
            text = json.dumps({"message": {"message": message, "extraInfo": beside}})
            Path(file).write_text(text, encoding="utf-8")


@contextmanager
def leading() -> Iterator[list[int]]:
    """The first process does what is inside and appends its exit code; at the end it tells the others."""
    global _ring
    _ring = Ring()
    codes: list[int] = []
    try:
        yield codes
    except BaseException as error:
        said(f"{type(error).__name__}: {told(error)}")
        raise
    finally:
        ring, _ring = _ring, None
        ring.end(codes[-1] if codes else 1)


def follow() -> int:
    """Take part in what the first process starts until it ends; returns its exit code."""
    global _ring
    _ring = ring = Ring()
    code, message = 1, ""
    try:
        while (job := ring.following()) is not None:
            take(ring, job)
        code, message = pickle.loads(ring.peers.store.get("end"))
    except Lost as lost:
        code, message = lost.exit_code, str(lost)
        last_words(ring, lost)
    except KeyboardInterrupt as error:
        code = exit_code_of(error)
        if gone := sorted(ring.peers.gone()):
            last_words(ring, ended := Lost.of(gone, ring.size))
            code, message = ended.exit_code, str(ended)
        elif ring.peers.store.check(["end"]):
            code, message = pickle.loads(ring.peers.store.get("end"))
    if code and message:
        said(message)
    ring.end(code)
    _ring = None
    return code


def take(ring: Ring, job: tuple[Any, ...]) -> None:
    """Take part in one job; what it raises the first process tells, but for a bug of this one and Lost."""
    path, place, sharing, what = job
    sys.path[:] = path
    os.chdir(place)
    if sharing:
        warm.begin()
    try:
        ring.take_part(unpacked, (what,))
    except Lost:
        raise
    except BaseException as error:
        if ring.own and Outcome.of(0, error).bug:
            traceback.print_exc()


def unpacked(what: bytes) -> Any:
    """Run a pickled call."""
    call, args = pickle.loads(what)
    return call(*args)


def last_words(ring: Ring, lost: Lost) -> None:
    """Where the first process is gone, the next one says so, and how to go on."""
    ring.succeed()
    if not terminal.leads():
        return
    places = pickle.loads(ring.peers.store.get("places")) if ring.peers.store.check(["places"]) else []
    for line, place in reversed(places):
        terminal.say(line)
        if place and is_run(run := Path(place)) and not Run(run).finished:
            with suppress(OSError):
                Run(run).write_json(FAILURE, {"message": str(lost), "exit_code": lost.exit_code})
    print(f"ftrun: {lost}", file=sys.stderr, flush=True)
