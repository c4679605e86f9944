"""A million runs through the driver alone, for scale.py: workers that keep a clock, a ledger that counts."""

from __future__ import annotations

import heapq
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import psutil

RUN = ["task=digits", "model=mlp", "train.max_steps=5", "baselines=false", "device=cpu"]


class Simulated:
    """Workers that only keep a clock: a run takes a random time, and dies or is refused now and then."""

    inside: ClassVar[bool] = False

    def __init__(self, workers: int, deaths: float) -> None:
        self.slots, self.deaths, self.draw = workers, deaths, random.Random(0)
        self.clock, self.queue, self.busy = 0.0, [], 0

    def open(self, directory, jobs, expected) -> None:  # noqa: ANN001
        """Nothing is needed."""

    def workers(self) -> int:
        return self.slots

    def room(self) -> int:
        return self.slots - self.busy

    def start(self, job) -> None:  # noqa: ANN001
        from ftrun.experiments.queue.job import FINISHED, KILLED

        state = KILLED if self.draw.random() < self.deaths else FINISHED
        heapq.heappush(self.queue, (self.clock + self.draw.expovariate(1 / 60), job.number, state))
        self.busy += 1

    def wait(self, seconds: float) -> list:
        from ftrun.experiments.queue.job import Event

        if not self.queue:
            return []
        self.clock, number, state = heapq.heappop(self.queue)
        self.busy -= 1
        return [Event(number, state, 0.5, message="its process was killed")]

    def stop(self) -> None:
        """Never asked."""

    def close(self) -> None:
        """Nothing to give back."""

    def describe(self) -> str:
        return "by nobody"


class InMemory:
    """A ledger that counts what is noted."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.noted = directory, Counter()

    def place_of(self, key: str) -> None:
        return None

    def write(self, key: str, *_) -> None:  # noqa: ANN002
        self.noted[key] += 1

    def ended(self, place: Path) -> bool:
        return False


def simulation(out: Path, count: int, workers: int) -> None:
    """The driver's own cost a run, without and with a ledger on the disk, and its memory a run."""
    from ftrun.experiments.overrides import compose
    from ftrun.experiments.queue.driver import Driver
    from ftrun.experiments.queue.job import Job, Packed, Place
    from ftrun.experiments.queue.telling import Telling
    from ftrun.runs.ledger import Ledger

    raw, place, shelf = compose(RUN), Place(), Path(tempfile.mkdtemp(dir=out))
    before = psutil.Process().memory_info().rss
    first = Packed.of(raw)
    begin = time.process_time()
    jobs = [
        Job(n, f"seed={n}", shelf / f"{n}-full", f"{n:016x}", Packed.of(raw | {"seed": n}, first), place)
        for n in range(count)
    ]
    packing, memory = time.process_time() - begin, psutil.Process().memory_info().rss - before
    for books, number in ((InMemory(shelf), count), (Ledger(shelf), min(count, 10_000))):
        telling = Telling()
        telling.expect(number)
        engine = Simulated(workers, 0.01)
        begin, sys.stdout = time.process_time(), open(os.devnull, "w")
        try:
            ended = Driver(engine, books, telling, 100).run(jobs[:number])
        finally:
            sys.stdout = sys.__stdout__
        spent = time.process_time() - begin
        once = getattr(books, "noted", None)
        print(
            json.dumps({
                "simulated runs": number, "workers": workers,
                "ledger": "in memory" if once is not None else "on the disk", "finished": telling.finished,
                "noted once": None if once is None else {*once.values()} == {1},
                "driver ms a run": round(1000 * spent / number, 3), "ended": len(ended),
                "simulated days": round(engine.clock / 86400, 2),
                "packing ms a run": round(1000 * packing / count, 3), "bytes a run": round(memory / count),
            }),
            flush=True,
        )  # fmt: skip
