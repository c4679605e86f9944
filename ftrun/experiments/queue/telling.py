"""What a person sees of a sweep: a line an event, one bar below, and at the end what failed and why."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from ftrun.errors import UserError, counted
from ftrun.experiments.queue.job import FINISHED
from ftrun.experiments.study.board import Board
from ftrun.reports.numbers import score
from ftrun.runs.run import LOG, RESULT, Run
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.experiments.queue.job import Event, Job

RUNS = "runs"  # the board's only way
LONGEST = 40  # characters of a setting in the line of a failure
NAMED = 4  # runs that are named of those that failed for one reason
OUTCOMES = ("test_", "eval_")  # of a run, the first that it has


class Telling:
    """One sweep of this command, as it goes."""

    def __init__(self) -> None:
        self.board = Board()
        self.failed: dict[str, list[Job]] = defaultdict(list)  # reason → runs
        self.expected = self.finished = 0

    def expect(self, count: int) -> None:
        """So many runs more."""
        self.expected += count
        self.board.pending[RUNS] += count

    def opened(self, who: str, workers: int) -> None:
        """Who makes them."""
        self.board.workers = workers
        self.say(f"runs are made {who}; what each prints is in its {LOG}")

    def say(self, text: str) -> None:
        self.board.say(text)

    def begin(self, job: Job) -> None:
        self.board.begin(str(job.number))

    def there(self, job: Job, place: Path) -> None:
        """A run that was finished before."""
        self.finished += 1
        self.board.done(RUNS, "", job.title, f"already finished: {os.path.relpath(place)}", now=False)

    def elsewhere(self, job: Job, why: str) -> None:
        self.board.end(str(job.number))
        why = why or "another process makes it"
        self.say(f"run {job.number} ({job.title}): {why}; it is looked at again later")

    def again(self, job: Job, event: Event, count: int, most: int) -> None:
        """A run whose process died goes on."""
        self.board.end(str(job.number))
        self.say(f"run {job.number} ({job.title}): {event.message}; it is taken up again ({count} of {most})")

    def done(self, job: Job, event: Event) -> None:
        """A run has ended for good."""
        self.board.end(str(job.number))
        if event.state == FINISHED:
            self.finished += 1
            self.board.done(RUNS, str(job.number), job.title, outcome(job.path))
            return
        self.failed[event.message].append(job)
        self.board.failed += 1
        self.board.done(RUNS, str(job.number), job.title, f"failed: {event.message}")
        if event.trace:
            self.say(event.trace.rstrip())

    def summary(self, directory: Path) -> int:
        """What failed, the reason first, and how many finished, as the last line; the exit code."""
        for reason, jobs in self.failed.items():
            named = "; ".join(f"run {job.number}: {brief(job.title)}" for job in jobs[:NAMED])
            more = f"; and {len(jobs) - NAMED} more" if len(jobs) > NAMED else ""
            runs = f"{counted(len(jobs), 'run')} failed: {reason} ({named}{more})"
            print(f"ftrun: {runs}", file=sys.stderr, flush=True)
        report = command("report", os.path.relpath(directory))
        print(f"{self.finished} of {self.expected} runs finished: {report}", flush=True)
        return 0 if self.expected and self.finished == self.expected else 1


def outcome(path: Path) -> str:
    """84.2 %: on test rows where there are some, else on validation rows."""
    with suppress(UserError):
        result = Run(path).read_json(RESULT) or {}
        metric = str(result.get("metric", "")).removeprefix("eval_")
        for prefix in OUTCOMES:
            if result.get(f"{prefix}{metric}") is not None:
                return score(result[f"{prefix}{metric}"], metric)
        if result.get("average") is not None:
            return score(result["average"], metric)
    return "finished"


def brief(title: str) -> str:
    """A run's words, each in at most LONGEST characters: its name, and the end of its value."""
    return " ".join(shortened(word) for word in title.split())


def shortened(word: str) -> str:
    key, equals, value = word.partition("=")
    room = max(LONGEST - len(key) - len(equals), 8)
    return word if len(value) <= room else f"{key}{equals}…{value[1 - room :]}"
