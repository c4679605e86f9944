"""Requests that wait are answered together: the next batch is all that came while the last one was made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

Rows = list[dict[str, Any]]
Answer = Callable[[Sequence[Rows]], Sequence[Any]]  # of each request its answers, or a UserError


class Full(Exception):
    """More rows wait than may."""


@dataclass
class Waiting:
    """A request, and where its answers are awaited."""

    rows: Rows
    found: asyncio.Future[Any]


@dataclass
class Batcher:
    """One thread that answers; requests come together in batches of at most `most` rows, or one request.

    No request waits for others to come. `room` is how many rows may wait.
    """

    answer: Answer
    most: int
    room: int
    waiting: list[Waiting] = field(default_factory=list)
    answered: int = 0  # rows so far
    batches: int = 0

    def __post_init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "answers")
        self.come = asyncio.Event()

    @property
    def rows_waiting(self) -> int:
        return sum(len(each.rows) for each in self.waiting)

    async def ask(self, rows: Rows) -> Any:
        """The answers to a request's rows; raises its UserError, and Full where too many wait."""
        if self.waiting and self.rows_waiting + len(rows) > self.room:
            raise Full
        one = Waiting(rows, asyncio.get_running_loop().create_future())
        self.waiting.append(one)
        self.come.set()
        return await one.found

    async def run(self) -> None:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self.come.wait()
            if not (batch := self.next_batch()):
                continue
            try:
                found = await loop.run_in_executor(self.thread, self.answer, [one.rows for one in batch])
            except Exception as error:  # a bug: each of these requests is told so, and the service goes on
                found = [error] * len(batch)
            for one, answers in zip(batch, found, strict=True):
                settle(one.found, answers)
            self.answered += sum(len(one.rows) for one in batch)
            self.batches += 1

    def next_batch(self) -> list[Waiting]:
        """The first that wait, as many as a batch takes; those that nobody awaits any more are left out."""
        batch: list[Waiting] = []
        rows = 0
        while self.waiting and (not batch or rows + len(self.waiting[0].rows) <= self.most):
            one = self.waiting.pop(0)
            if not one.found.cancelled():
                batch.append(one)
                rows += len(one.rows)
        if not self.waiting:
            self.come.clear()
        return batch


def settle(found: asyncio.Future[Any], answers: Any) -> None:
    if found.done():  # whoever asked has gone
        return
    if isinstance(answers, Exception):
        found.set_exception(answers)
    else:
        found.set_result(answers)
