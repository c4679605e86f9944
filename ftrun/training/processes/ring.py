"""This process among those that train one run with it: the jobs that it has a part in, and how each ends."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ftrun.errors import Interrupted
from ftrun.runs import terminal
from ftrun.training.processes.peers import Peers
from ftrun.training.processes.verdict import Lost, Outcome, verdict

if TYPE_CHECKING:
    from types import FrameType

T = TypeVar("T")

LOOK = 0.05  # seconds between two looks at what the others say, at first
WATCH = 0.5  # seconds between two looks of the thread that ends what would wait for ever
FAREWELL = 5.0  # seconds in which the others hear that it is over


class Ring:
    """This process among its peers."""

    def __init__(self) -> None:
        from ftrun.training.processes.connection import Connection

        self.peers = Peers()
        self.connection = Connection(self.peers)
        self.rank, self.size = self.peers.rank, self.peers.size
        self.jobs = 0  # begun so far
        self.inside = self.settling = False
        self.late = False  # SIGTERM came while the processes spoke with each other
        self.over = False  # this one is about to end, as it was told to or as another is gone
        self.ended: BaseException | None = None  # what the current job ends with, once all know
        self.own = False  # whether this process is the one to tell it in full
        self.places: list[tuple[str, str]] = []  # what continues the whole: a line, and a run directory or ""
        self.message = ""
        self.code: int | None = None  # that of the process, once it is known
        atexit.register(self.leave)
        signal.signal(signal.SIGTERM, self.terminated)
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def watch(self) -> None:
        """Break the process group when a job has failed or a peer is gone, as a collective would wait on."""
        store = self.peers.second
        with suppress(RuntimeError):  # who kept the store has gone, which the others notice too
            while not self.done.wait(WATCH):
                self.peers.beat()
                group = self.connection.group
                if group is not None and (store.check([f"failed/{group}"]) or self.peers.gone()):
                    self.connection.cut()

    def terminated(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM, as torchrun sends it to the others when one process has ended."""
        self.late = self.settling
        if not self.settling and not self.over:
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
            self.over = True
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
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends, with its own exit code
        self.code = code
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
        self.done.set()
        self.watcher.join(FAREWELL)  # within torch's code it would abort the process at its end
        self.connection.close()

    def leave(self) -> None:
        """End at once after a group was cut, of whose threads the process would be aborted at its end."""
        if self.code is not None and self.connection.was_cut:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(self.code)
