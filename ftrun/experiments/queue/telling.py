"""What a person sees of many runs: a line an event, one bar below, and at the end what failed and why."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from ftrun.errors import UserError, counted
from ftrun.experiments.queue.job import FINISHED, RUNS
from ftrun.experiments.study.board import Board
from ftrun.reports.numbers import score
from ftrun.runs.run import LOG, RESULT, Run
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ftrun.experiments.queue.job import Event, Job

LONGEST = 40  # characters of a setting in the line of a failure
NAMED = 4  # runs that are named of those that failed for one reason
OUTCOMES = {"test_": "", "eval_": " on validation"}  # of a run, the first that it has


class Telling:
    """The runs of this command, as they go."""

    def __init__(self) -> None:
        self.board = Board()
        self.failed: dict[str, list[Job]] = defaultdict(list)  # reason → runs
        self.expected = self.finished = 0

    def title(self, job: Job) -> str:
        """What tells a run from the others."""
        return job.title

    def name(self, job: Job) -> str:
        """How a run is named in a sentence."""
        return f"run {job.number} ({job.title})"

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
        """A run that was finished before; UserError where its result is damaged."""
        told = f"{outcome(place)} · already finished: {os.path.relpath(place)}"
        self.finished += 1
        self.board.done(job.way, "", self.title(job), told, now=False)

    def elsewhere(self, job: Job, why: str) -> None:
        self.board.end(str(job.number))
        why = why or "another process makes it"
        self.say(f"{self.name(job)}: {why}; it is looked at again later")

    def again(self, job: Job, event: Event, count: int, most: int) -> None:
        """A run whose process died goes on."""
        self.board.end(str(job.number))
        self.say(f"{self.name(job)}: {event.message}; it is taken up again ({count} of {most})")

    def paused(self, job: Job) -> None:
        """A run has come to where it is compared with others."""
        self.board.end(str(job.number))

    def given_up(self, job: Job, reached: str) -> None:
        """A run that waited will not go on."""
        self.board.done(job.way, str(job.number), self.title(job), reached)

    def done(self, job: Job, event: Event) -> None:
        """A run has ended for good; the reason of a failure is told in full where it is a new one."""
        self.board.end(str(job.number))
        if event.state == FINISHED:
            self.finished += 1
            told = "finished"
            with suppress(UserError):
                told = outcome(job.path)
            self.board.done(job.way, str(job.number), self.title(job), told)
            return
        alike = self.failed[event.message]
        why = f" as {self.name(alike[0])}" if alike else f": {event.message}"
        alike.append(job)
        self.board.failed += 1
        self.board.done(job.way, str(job.number), self.title(job), f"failed{why}")
        if event.trace and len(alike) == 1:
            self.say(event.trace.rstrip())

    def refused(self, jobs: Sequence[Job], reason: str, others: bool) -> None:
        """These runs cannot be made, as is known before any begins; said at once where `others` are made."""
        self.failed[reason] += jobs
        self.board.failed += len(jobs)
        for job in jobs:
            self.board.drop(job.way)
        if others:
            self.say(f"{counted(len(jobs), 'run')} cannot be made: {reason}")

    def summary(self, directory: Path) -> int:
        """What failed, the reason first, and how many finished, as the last line; the exit code."""
        for reason, jobs in self.failed.items():
            named = "; ".join(f"run {job.number}: {brief(job.title)}" for job in jobs[:NAMED])
            more = f"; and {len(jobs) - NAMED} more" if len(jobs) > NAMED else ""
            runs = f"{counted(len(jobs), 'run')} failed: {reason} ({named}{more})"
            print(f"ftrun: {runs}", file=sys.stderr, flush=True)
        report = command("report", os.path.relpath(directory))
        shown = f": {report}" if self.finished else ""
        print(f"{self.finished} of {self.expected} runs finished{shown}", flush=True)
        return 0 if self.expected and self.finished == self.expected else 1


def outcome(path: Path) -> str:
    """84.2 %: on test rows where there are some, else on validation rows; UserError if it is damaged."""
    result = Run(path).read_json(RESULT) or {}
    metric = str(result.get("metric", "")).removeprefix("eval_")
    for prefix, where in OUTCOMES.items():
        if result.get(f"{prefix}{metric}") is not None:
            return score(result[f"{prefix}{metric}"], metric) + where
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
