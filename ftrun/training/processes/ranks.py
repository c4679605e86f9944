"""Several processes that train one run: the first leads, the others take part in what it starts.

Only the first runs a command. What all are needed for it hands out with `together`: each job ends in all of
them before the next begins, in the same way, for a job that fails in one fails in all. They speak through
torch's TCPStore, which torchrun keeps outside of them, so that none of it needs a collective to end.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ftrun.errors import Interrupted, told
from ftrun.runs import terminal, warm
from ftrun.runs.run import FAILURE, Run, is_run
from ftrun.training.processes.peers import Peers
from ftrun.training.processes.verdict import Lost, Outcome, verdict

if TYPE_CHECKING:
    from types import FrameType

P = ParamSpec("P")
T = TypeVar("T")

LOOK = 0.05  # seconds between two looks at what the others say, at first
WATCH = 0.5  # seconds between two looks of the thread that ends what would wait for ever
FAREWELL = 5.0  # seconds in which the others hear that it is over

_ring: Ring | None = None


class Ring:
    """This process among its peers."""

    def __init__(self) -> None:
        from ftrun.training.processes.connection import Connection

        self.peers = Peers()
        self.connection = Connection(self.peers)
        self.rank, self.size = self.peers.rank, self.peers.size
        self.jobs = 0  # begun so far
        self.inside = self.settling = self.late = False
        self.ended: BaseException | None = None  # what the current job ends with, once all know
        self.own = False  # whether this process is the one to tell it in full
        self.places: list[tuple[str, str]] = []  # what continues the whole: a line, and a run directory or ""
        self.message = ""
        signal.signal(signal.SIGTERM, self.terminated)
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        """Break the process group when a job has failed or a peer is gone, as a collective would wait on."""
        store = self.peers.second
        with suppress(RuntimeError):  # who kept the store has gone, which the others notice too
            while True:
                self.peers.beat()
                group = self.connection.group
                if group is not None and (store.check([f"failed/{group}"]) or self.peers.gone()):
                    self.connection.cut()
                time.sleep(WATCH)

    def terminated(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM, as torchrun sends it to the others when one process has ended."""
        self.late = self.settling
        if not self.late:
            raise Interrupted("SIGTERM", signum)

    def take_part(self, call: Callable[..., T], args: tuple[Any, ...]) -> T:
        """Run a job that all run; raises in all what it ends with."""
        self.jobs += 1
        self.inside, self.ended, self.own = True, None, False
        try:
            value = call(*args)
        except BaseException as error:
            found = self.settled(error)
            if found is error:
                raise
            assert found is not None
            raise found from None
        else:
            if (found := self.settled(None)) is not None:
                raise found
            return value
        finally:
            self.inside, self.ended = False, None

    def settled(self, error: BaseException | None) -> BaseException | None:
        """What the current job ends with in all processes, once each has said what it did in this one."""
        if self.ended is not None:
            return self.ended
        self.settling = True
        try:
            found = self.exchanged(error)
        finally:
            self.settling = False
        if self.late and found is None:
            raise Interrupted("SIGTERM", signal.SIGTERM)
        return found

    def exchanged(self, error: BaseException | None) -> BaseException | None:
        store, job = self.peers.store, self.jobs
        order = store.add(f"order/{job}", 1) if error is not None else 0
        store.set(f"outcome/{job}/{self.rank}", pickle.dumps(Outcome.of(order, error)))
        if error is not None:
            store.set(f"failed/{self.connection.group}", "")
            self.connection.cut()
        known: dict[int, Outcome] = {}
        for peer in self.peers.until(lambda peer: bool(store.check([f"outcome/{job}/{peer}"]))):
            known[peer] = pickle.loads(store.get(f"outcome/{job}/{peer}"))
        missing = [peer for peer in range(self.size) if peer not in known]
        self.ended, self.own = verdict(known, missing, self.rank, error)
        if missing:
            self.succeed()
        if self.ended is not None:
            self.connection.close()
        return self.ended

    def succeed(self) -> None:
        """Of the processes that are left the first speaks."""
        if all(peer in self.peers.gone() for peer in range(self.rank)):
            terminal.lead()

    def following(self) -> tuple[Any, ...] | None:
        """The next job, None where the first process has ended; Lost where it is gone."""
        store, job = self.peers.store, f"job/{self.jobs + 1}"
        pause = LOOK
        while not store.check([job]):
            if store.check(["end"]):
                return None
            if self.peers.gone():
                raise Lost.of(sorted(self.peers.gone()), self.size)
            time.sleep(pause)
            pause = min(2 * pause, WATCH)
        found: tuple[Any, ...] = pickle.loads(store.get(job))
        return found

    def end(self, code: int) -> None:
        """Tell the others that it is over, and with which exit code; waits until they know."""
        store = self.peers.store
        with suppress(RuntimeError):  # who kept the store may have gone
            if self.rank == 0:
                store.set("end", pickle.dumps((code, self.message)))
                gone = {0, *self.peers.gone()}
                until = time.monotonic() + FAREWELL
                while time.monotonic() < until and any(
                    not store.check([f"heard/{peer}"]) for peer in range(self.size) if peer not in gone
                ):
                    time.sleep(LOOK)
            else:
                store.set(f"heard/{self.rank}", "")
        self.connection.close()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends, with its own exit code


def several() -> bool:
    """Whether torchrun or another launcher has started more than this process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def leaderless() -> bool:
    """Whether no process leads: there is one, or a program of one's own runs ftrun in each of several."""
    return _ring is None


def alone() -> bool:
    """Whether this process does now what the others have no part in."""
    return _ring is not None and not _ring.inside


def together(call: Callable[P, T], *args: P.args, **words: P.kwargs) -> T:
    """What the call returns, made by all processes at once; where this is the only one, by it.

    The function and its arguments are pickled. Raises in all what it ends with in one; Lost where one is gone.
    """
    assert not words
    if _ring is None or _ring.inside:
        return call(*args, **words)
    job = [*sys.path], os.getcwd(), warm.sharing(), pickle.dumps((call, args))
    _ring.peers.store.set(f"job/{_ring.jobs + 1}", pickle.dumps(job))
    return _ring.take_part(call, args)


@contextmanager
def joined(gpu: bool) -> Iterator[None]:
    """Inside there is a process group for the current job."""
    if _ring is not None:
        _ring.connection.open(gpu)
    yield


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
    except (Interrupted, KeyboardInterrupt) as error:
        code = error.exit_code if isinstance(error, Interrupted) else 130
        if gone := sorted(ring.peers.gone()):
            last_words(ring, lost := Lost.of(gone, ring.size))
            code, message = lost.exit_code, str(lost)
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
