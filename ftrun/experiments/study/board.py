"""What a study or a sweep shows while it runs: a line for each run that is done, on a terminal bars below."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftrun.reports.numbers import roughly

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Board:
    """The runs that are to come, by their way, and the seconds that each was predicted to take."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers  # runs that are made at the same time
        self.failed = 0
        self.pending: Counter[str] = Counter()
        self.predicted: dict[str, float] = {}  # of a run of each way
        self._took: dict[str, float] = {}  # seconds of the runs of each way that were made now, together
        self._made: Counter[str] = Counter()  # and how many these are
        self._spent: dict[str, float] = {}  # seconds that runs which are not done have taken so far
        self._since: dict[str, float] = {}  # when those that are being made began
        self._first: float | None = None  # when the first began
        self._count = 0  # runs that are told
        self._screen: Progress | None = None
        self._whole: TaskID | None = None  # the bar of all

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The bars, as long as it runs; none where the output is no terminal."""
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        from ftrun.runs.console import Console

        console = Console()  # is bound to the terminal while runs print elsewhere
        console.file = console.file
        if not console.is_terminal:
            yield
            return
        columns = [BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False)]
        options = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
        with Progress(*columns, console=console, **options) as self._screen:  # type: ignore[arg-type]
            self._whole = self._screen.add_task("", total=None)
            self._refresh()
            try:
                yield
            finally:
                self._screen = None

    @contextmanager
    def running(self, key: str, title: str) -> Iterator[Callable[[int, int], None]]:
        """Time one run, known by its key, and show its bar; yields what is to be told of its steps."""
        self.begin(key)
        bar = None if self._screen is None else self._screen.add_task(f"{title} · starting", total=None)

        def watch(step: int, total: int) -> None:
            if self._screen is not None and bar is not None:
                self._screen.update(bar, completed=step, total=total, description=title)

        try:
            yield watch
        finally:
            if self._screen is not None and bar is not None:
                self._screen.remove_task(bar)
            self.end(key)

    def begin(self, key: str) -> None:
        """The clock of a run starts, or goes on."""
        self._since[key] = time.perf_counter()
        self._first = self._since[key] if self._first is None else self._first

    def end(self, key: str) -> None:
        """It stops; harmless where it does not run."""
        if key in self._since:
            self._spent[key] = self._spent.get(key, 0.0) + time.perf_counter() - self._since.pop(key)

    def drop(self, way: str) -> None:
        """A run that is not made counts as told, without a line."""
        self.pending[way] = max(0, self.pending[way] - 1)
        self._count += 1

    def done(self, way: str, key: str, title: str, outcome: str, now: bool = True) -> None:
        """A line for a run that has come to its end, `now` or in an earlier call."""
        if now:
            self._took[way] = self._took.get(way, 0.0) + self._spent.pop(key, 0.0)
            self._made[way] += 1
        self.drop(way)
        self.say(f"{self._count} of {self._total} · {title} · {outcome}{self._rest()}")
        self._refresh()

    @property
    def _total(self) -> int:
        return self._count + self.pending.total()

    def _rest(self) -> str:
        left = self.left()
        return f" · {roughly(left)} left" if left else ""

    def _refresh(self) -> None:
        """The bar of all: 17 of 200 · 2 failed · 38 min left."""
        if self._screen is None or self._whole is None:
            return
        failed = f" · {self.failed} failed" if self.failed else ""
        text = f"{self._count} of {self._total}{failed}{self._rest()}"
        self._screen.update(self._whole, completed=self._count, total=self._total or None, description=text)

    def left(self) -> float | None:
        """The seconds of the runs to come, by the prediction and how it fared so far; None where unknown."""
        typical = {way: self._typical(way) for way, count in self.pending.items() if count}
        known = [seconds for seconds in typical.values() if seconds is not None]
        if not typical or not known:
            return None
        other = sum(known) / len(known)
        whole = sum(
            self.pending[way] * (other if seconds is None else seconds) for way, seconds in typical.items()
        )
        now = time.perf_counter()
        spent = sum(self._spent.values()) + sum(now - since for since in self._since.values())
        return max(whole - spent, 0.0) * self._overlap(now, spent) / self.workers

    def _overlap(self, now: float, spent: float) -> float:
        """At most 1: workers have fewer seconds than their runs where runs wait for one another in a job."""
        own = spent + sum(self._took.values())
        if self._first is None or not own:
            return 1.0
        return min(1.0, (now - self._first) * self.workers / own)

    def _typical(self, way: str) -> float | None:
        """Its runs' mean where some were made, else what was predicted, times what others took of theirs."""
        if way in self._took:
            return self._took[way] / self._made[way]
        if way not in self.predicted:
            return None
        made = [other for other in self._took if other in self.predicted]
        thought = sum(self.predicted[other] * self._made[other] for other in made)
        spent = sum(self._took[other] for other in made)
        return self.predicted[way] * (spent / thought if thought else 1.0)

    def say(self, text: str) -> None:
        """One line, above the bar."""
        if self._screen is None:
            print(text, flush=True)
        else:
            self._screen.console.print(text, soft_wrap=True)
