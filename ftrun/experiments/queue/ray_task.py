"""The side of a worker that Ray starts: what a machine of the cluster is asked, and the task of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.runs.ledger import code_version

if TYPE_CHECKING:
    from ftrun.experiments.queue.job import Event, Job, Place


@dataclass(frozen=True)
class Driving:
    """What every worker has to have in common with the driver, and what it is given."""

    code: str  # of ftrun
    shared: str  # a file in the directory of the sweep
    place: Place
    environment: dict[str, str]

    def lacking(self) -> str:
        """What this machine lacks to make runs for the driver, in a line; nothing if it can."""
        if code_version() != self.code:
            return "its ftrun is not the one with which the command was given, or has changed since"
        for place in (os.path.dirname(self.shared), self.place.directory):
            if not os.path.isdir(place):
                return f"it has no directory {place}, which all machines must share"
        if not os.path.exists(self.shared):
            return f"its directory {os.path.dirname(self.shared)} is another one; all machines must share it"
        return ""


@dataclass(frozen=True)
class Unfit:
    """The answer of a machine that cannot make runs."""

    node: str  # its number in Ray
    address: str
    reason: str


def look(driving: Driving) -> Unfit | None:
    """What a machine lacks, asked in a process of its own there."""
    import ray

    if not (reason := driving.lacking()):
        return None
    return Unfit(ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), reason)


def make(job: Job, driving: Driving) -> Event | Unfit:
    """One run, in a process that Ray gives to run after run."""
    if (unfit := look(driving)) is not None:
        return unfit
    os.environ.update(driving.environment)
    from ftrun.experiments.queue.worker import work
    from ftrun.runs import warm
    from ftrun.runs.streams import outputs

    driving.place.enter()
    warm.begin()
    with outputs():
        return work(job)
