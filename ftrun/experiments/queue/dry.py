"""hydra.launcher.dry=true: what a sweep would do, without doing it."""

from __future__ import annotations

import os
from statistics import fmean
from typing import TYPE_CHECKING

from ftrun.errors import UserError, counted
from ftrun.experiments.making import looked
from ftrun.experiments.queue.places import place_for
from ftrun.experiments.queue.telling import brief
from ftrun.reports.numbers import roughly
from ftrun.runs.run import Run, is_run
from ftrun.settings.read import checked

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from ftrun.experiments.queue.engine import Engine
    from ftrun.experiments.queue.job import Job
    from ftrun.runs.ledger import Ledger

LISTED = 40  # runs, at most
TIMED = 4  # kinds of runs that are timed, at most
KIND = ("strategy", "task", "model", "train")  # settings that decide how long a run takes


def show(jobs: list[Job], refused: list[tuple[Job, str]], ledger: Ledger, engine: Engine) -> None:
    """Print the runs with their states, who would make them, and how long it would take."""
    reasons = {job.number: reason for job in jobs if (reason := refusal(job))}
    refused = [*refused, *((job, reasons[job.number]) for job in jobs if job.number in reasons)]
    jobs = [job for job in jobs if job.number not in reasons]
    there = {job.number: ledger.place_of(job.key) for job in jobs}
    first = {job.key: job for job in reversed(jobs)}
    lines = [(job, f"cannot be made: {reason}") for job, reason in refused]
    lines += [(job, state_of(job, there[job.number], ledger, first[job.key])) for job in jobs]
    for job, state in sorted(lines, key=lambda line: line[0].number)[:LISTED]:
        print(f"run {job.number} · {brief(job.title)} · {state}")
    if len(lines) > LISTED:
        print(f"and {len(lines) - LISTED} more")
    left = [job for job in first.values() if there[job.number] is None]
    finished = [place for place in there.values() if place is not None]
    done = f", {len(finished)} finished already" if finished else ""
    cannot = f", {len(refused)} that cannot be made" if refused else ""
    print(f"{counted(len(lines), 'run')}{done}{cannot}, {len(left)} to do; nothing was started")
    if not left:
        return
    engine.open(ledger.directory, left)
    try:
        print(f"they would be made {engine.describe()}")
        print(time_of(left, finished, engine.workers()))
    finally:
        engine.close()


def refusal(job: Job) -> str:
    """Why a run would not begin: a setting that cannot be, or a file that is not there."""
    try:
        checked(job.raw)
        looked(job.raw)
    except UserError as error:
        return str(error)
    return ""


def state_of(job: Job, there: Path | None, ledger: Ledger, first: Job) -> str:
    if there is not None:
        return f"finished: {os.path.relpath(there)}"
    if first is not job:
        return f"the same as run {first.number}"
    path = place_for(job, ledger).path
    if not is_run(path):
        return "to do"
    states = {"running": "is being made by another process", "finished": "has its result, which is used"}
    return f"{states.get(Run(path).state, 'goes on from its last checkpoint')}: {os.path.relpath(path)}"


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
