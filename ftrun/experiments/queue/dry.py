"""hydra.launcher.dry=true: what a sweep would do, without doing it."""

from __future__ import annotations

import os
from collections import Counter
from statistics import fmean
from typing import TYPE_CHECKING

from ftrun.errors import UserError, counted
from ftrun.experiments.making import refusal
from ftrun.experiments.queue.places import finished_unnoted, place_for
from ftrun.experiments.queue.telling import brief
from ftrun.reports.numbers import roughly
from ftrun.runs.run import Run, is_run

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from ftrun.experiments.queue.engine import Engine
    from ftrun.experiments.queue.job import Job
    from ftrun.runs.ledger import Ledger

LISTED = 40  # runs, at most
TIMED = 4  # kinds of runs that are timed, at most
KIND = ("strategy", "task", "model", "train")  # settings that decide how long a run takes


def show(jobs: list[Job], refused: dict[str, list[Job]], ledger: Ledger, engine: Engine) -> None:
    """Print the runs with their states, who would make them, and how long it would take.

    `refused` are those that cannot be composed, by the reason.
    """
    there = {job.number: ledger.place_of(job.key) or finished_unnoted(job, ledger) for job in jobs}
    cannot = {job.number: reason for reason, alike in refused.items() for job in alike}
    for job in jobs:
        if there[job.number] is None and (reason := refusal(job.raw, job.path)):
            cannot[job.number] = reason
    first = {job.key: job for job in reversed(jobs)}  # of equal ones
    left = [job for job in first.values() if there[job.number] is None and job.number not in cannot]
    every = sorted([*jobs, *(job for alike in refused.values() for job in alike)], key=lambda job: job.number)
    for job in every[:LISTED]:
        one = first.get(job.key, job)
        state = "cannot be made" if job.number in cannot else state_of(job, there[job.number], ledger, one)
        print(f"run {job.number} · {brief(job.title)} · {state}")
    if len(every) > LISTED:
        print(f"and {len(every) - LISTED} more")
    for reason, count in Counter(cannot.values()).items():
        print(f"{counted(count, 'run')} cannot be made: {reason}")
    found = sum(place is not None for place in there.values())
    done = f", {found} finished already" if found else ""
    print(f"{counted(len(every), 'run')}{done}, {len(left)} to do; nothing was started")
    if not left:
        return
    engine.open(ledger.directory, left, len(left))
    try:
        print(f"they would be made {engine.describe()}")
        print(time_of(left, [place for place in there.values() if place is not None], engine.workers()))
    finally:
        engine.close()


def state_of(job: Job, there: Path | None, ledger: Ledger, first: Job) -> str:
    if there is not None:
        return f"finished: {os.path.relpath(there)}"
    if first is not job:
        return f"the same as run {first.number}"
    path = place_for(job, ledger).path
    if not is_run(path):
        return "to do"
    state = Run(path).state
    goes_on = "is being made by another process" if state == "running" else "goes on from its last checkpoint"
    return f"{goes_on}: {os.path.relpath(path)}"


def time_of(left: list[Job], finished: list[Path], workers: int) -> str:
    """How long it would take: by the runs that are finished, else by a few steps of each kind."""
    seconds = [
        cost["seconds"]
        for place in finished
        if isinstance((cost := Run(place).read_json("cost.json") or {}).get("seconds"), int | float)
    ]
    if seconds:
        each, how = fmean(seconds), f"as the {counted(len(seconds), 'run')} that finished"
    else:
        try:
            each, how = timed(left), "by a few steps of each kind of run"
        except UserError as error:
            return f"how long it would take is not known: {error}"
    return f"about {roughly(each * len(left) / workers)} ({roughly(each)} a run, {how})"


def timed(left: list[Job]) -> float:
    """The mean seconds of a run, measured on one of each kind."""
    from ftrun.experiments.planning import outlook
    from ftrun.experiments.study.costing import costs_of

    kinds: dict[str, dict[str, Any]] = {}
    for job in left:
        raw = job.raw
        kinds.setdefault(str([raw[name] for name in KIND]), raw)
        if len(kinds) == TIMED:
            break
    found = costs_of(outlook(kinds).ways)
    known = [cost.seconds for cost in found.values() if cost is not None]
    if not known:
        raise UserError("no run can be timed here")
    return fmean(known)
