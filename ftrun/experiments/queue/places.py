"""Where the runs of a sweep lie: each in its own place, whatever an earlier sweep left under its number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.runs.run import PAUSE, RESULT, Run, is_run
from ftrun.settings.settled import agree

if TYPE_CHECKING:
    from ftrun.experiments.queue.job import Job
    from ftrun.runs.ledger import Ledger

Settings = dict[str, Any]


def place_for(job: Job, ledger: Ledger) -> Job:
    """The job at its place.

    Runs are numbered as a sweep names them, so another sweep in the same directory, of more seeds, finds
    other runs under its numbers; its own are then put beside them.
    """
    if not is_run(job.path) or is_free(job.path, job.raw, ledger):
        return job
    return replace(job, path=job.path.with_name(f"{job.path.name}-{job.key[:6]}"))


def is_free(path: Path, raw: Settings, ledger: Ledger) -> bool:
    """Whether no run is there, or one of these settings without a result or whose end is in no ledger."""
    if not is_run(path):
        return True
    done = Run(path).finished and ledger.ended(path)
    return not done and agree(chosen(raw), chosen(Run(path).settings))


def chosen(raw: Settings) -> Settings:
    """The settings without the network where `pretrain` makes it: a run names the one that was made."""
    pretrain = raw.get("pretrain") or {"name": "none"}
    return raw if pretrain["name"] == "none" else raw | {"model": None}


def finished_unnoted(job: Job, ledger: Ledger) -> Path | None:
    """Where the run has finished without the ledger knowing, as where its driver died; None where nowhere."""
    path = place_for(job, ledger).path
    return path if (path / RESULT).is_file() and is_free(path, job.raw, ledger) else None


def waits(path: Path) -> bool:
    """Whether a run has come to a rung, as to half, and has not finished since."""
    return is_run(path) and (path / PAUSE).is_file() and not Run(path).finished


def vacate(path: Path) -> None:
    """Remove the directory of a run that never began, where nothing is in it."""
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
