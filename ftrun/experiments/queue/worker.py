"""The side of a worker: one job, from its settings to its end; what it prints goes to the run's log.txt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.experiments.queue.attempt import alone, told
from ftrun.experiments.queue.group import in_group
from ftrun.runs.run import LOG
from ftrun.runs.terminal import logged

if TYPE_CHECKING:
    from ftrun.experiments.queue.job import Event, Job
    from ftrun.runs.terminal import Watch


def work(job: Job, watch: Watch | None = None) -> Event:
    """Make a run, or go on with it, in this process or in a group of its own; how it ended, never an error.

    SIGTERM has it save and end, wherever it has come to. `watch` is told of every optimizer step.
    """
    try:
        job.path.mkdir(parents=True, exist_ok=True)
        with logged(job.path / LOG, watch):
            return alone(job) if job.processes == 1 else in_group(job)
    except OSError as error:  # of log.txt itself
        return told(job, error)
