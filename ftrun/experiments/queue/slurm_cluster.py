"""Where SLURM's engine has its jobs: on a cluster, or as submitit's local processes to try it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from submitit import LocalExecutor, SlurmExecutor, helpers
from submitit.core.logger import get_logger
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError, JobPaths

from ftrun.errors import ConfigError, shortened
from ftrun.experiments.queue.inheriting import inherited
from ftrun.experiments.queue.job import FINISHED
from ftrun.experiments.queue.slurm_job import Ticket, make
from ftrun.experiments.queue.slurm_states import States

if TYPE_CHECKING:
    from ftrun.experiments.queue.slurm_settings import SlurmSettings

PROGRAMS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
SUBMITTED = "_submitted.pkl"  # submitit's file of a job
TAIL = 4096  # bytes of a log that are looked at
LONGEST = 300  # characters of what a program says


class Cluster(Protocol):
    def submit(self, folder: Path, parts: list[list[Ticket]]) -> list[str]:
        """A job for each part; their numbers. Raises ConfigError where they are not taken."""

    def ended(self, number: str, folder: Path) -> str:
        """How a job ended, in SLURM's words; empty while it waits or runs."""

    def alive(self, jobs: dict[str, Path]) -> set[str]:
        """Those of an earlier driver's jobs, number → folder, that are known to wait or run."""

    def stop(self, numbers: list[str]) -> None:
        """Have jobs that run save and end, and those that wait not begin."""

    def kill(self, numbers: list[str]) -> None:
        """End them, whatever they do."""


class Scheduler:
    """SLURM itself."""

    def __init__(self, settings: SlurmSettings) -> None:
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing:
            raise ConfigError(
                f"hydra/launcher=slurm needs SLURM's {', '.join(missing)}, not found here; possible: a login"
                " node of the cluster, hydra/launcher=local, or hydra.launcher.cluster=local to try it"
            )
        get_logger().setLevel(logging.ERROR)  # of a sacct that does not answer it warns each time
        self.minutes = settings.timeout_min
        self.states = States(settings.interval)
        given = settings.additional_parameters
        wanted: dict[str, Any] = {
            "job_name": settings.name,
            "time": settings.timeout_min,
            "signal_delay_s": settings.signal_delay_s,
            "cpus_per_task": settings.cpus_per_task,
            "gpus_per_node": settings.gpus_per_node or None,
            "mem": f"{round(1024 * settings.mem_gb)}M" if settings.mem_gb else None,
            "partition": settings.partition,
            "account": settings.account,
            "qos": settings.qos,
            "constraint": settings.constraint,
            "array_parallelism": settings.array_parallelism,
            "setup": settings.setup or None,
            "srun_args": [
                f"--cpus-per-task={settings.cpus_per_task}"
            ],  # which srun has not inherited since 22.05
        }
        self.parameters = {name: value for name, value in wanted.items() if value is not None}
        self.parameters["stderr_to_stdout"] = True
        self.parameters["additional_parameters"] = {"requeue": True} | dict(given)

    def submit(self, folder: Path, parts: list[list[Ticket]]) -> list[str]:
        executor = SlurmExecutor(folder)
        executor.update_parameters(**self.parameters)
        try:
            with submitting(parts[0][0], self.parameters["cpus_per_task"]):
                jobs = executor.map_array(make, [folder] * len(parts), parts, [self.minutes] * len(parts))
        except (FailedJobError, FailedSubmissionError) as error:
            said = shortened(" ".join(str(error).split()), LONGEST)
            raise ConfigError(f"sbatch does not take the jobs of hydra/launcher=slurm: {said}") from None
        for job in jobs:
            self.states.register_job(job.job_id)
        return [str(job.job_id) for job in jobs]

    def ended(self, number: str, folder: Path) -> str:
        return self.states.told(number) if self.states.is_done(number) else ""

    def alive(self, jobs: dict[str, Path]) -> set[str]:
        for number in jobs:
            self.states.register_job(number)
        return {number for number in jobs if not self.states.is_done(number) and self.states.is_known(number)}

    def stop(self, numbers: list[str]) -> None:
        self.states.hurry()
        self.cancel("--state=PENDING", *ranges(numbers))
        self.cancel("--state=RUNNING", "--signal=TERM", *ranges(numbers))

    def kill(self, numbers: list[str]) -> None:
        self.cancel(*ranges(numbers))

    def cancel(self, *words: str) -> None:
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["scancel", *words], capture_output=True, timeout=60)


class Processes:
    """submitit's local executor: each job is a process of this machine, which outlives the driver."""

    def __init__(self, settings: SlurmSettings) -> None:
        self.parameters = {
            "timeout_min": settings.timeout_min,
            "signal_delay_s": settings.signal_delay_s,
            "gpus_per_node": settings.gpus_per_node,
            "setup": settings.setup,
            "stderr_to_stdout": True,
        }
        self.threads, self.minutes = settings.cpus_per_task, settings.timeout_min
        self.own: dict[str, Any] = {}

    def submit(self, folder: Path, parts: list[list[Ticket]]) -> list[str]:
        executor = LocalExecutor(folder)
        executor.update_parameters(**self.parameters)
        with submitting(parts[0][0], self.threads):
            jobs = executor.map_array(make, [folder] * len(parts), parts, [self.minutes] * len(parts))
        self.own |= {job.job_id: job for job in jobs}
        return [str(job.job_id) for job in jobs]

    def ended(self, number: str, folder: Path) -> str:
        if number in self.own:
            return "" if str(self.own[number].state) == "RUNNING" else "FAILED"
        return "" if str(folder) in " ".join(self.command(number)) else "GONE"

    def alive(self, jobs: dict[str, Path]) -> set[str]:
        return {number for number, folder in jobs.items() if not self.ended(number, folder)}

    def command(self, number: str) -> list[str]:
        import psutil

        with suppress(psutil.Error):
            words: list[str] = psutil.Process(int(number)).cmdline()
            return words
        return []

    def stop(self, numbers: list[str]) -> None:
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGTERM)

    def kill(self, numbers: list[str]) -> None:
        import psutil

        for number in numbers:
            with suppress(psutil.Error):
                process = psutil.Process(int(number))
                for each in [process, *process.children(recursive=True)]:
                    each.kill()


@contextmanager
def submitting(ticket: Ticket, cores: int) -> Iterator[None]:
    """What a job inherits: where the person's modules are, and as many threads as it has cores.

    Nothing of the job in which the driver itself may run.
    """
    job = ticket.job
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // job.processes)))
    own = {"PYTHONPATH": os.pathsep.join(job.place.modules), "OMP_NUM_THREADS": threads}
    with inherited(own), helpers.clean_env() if "SLURM_JOB_ID" in os.environ else nullcontext():
        yield


def ranges(numbers: Iterable[str]) -> list[str]:
    """Jobs as scancel takes them: 12, and 34_[0,1,5] of an array."""
    arrays: dict[str, list[str]] = defaultdict(list)
    for number in numbers:
        array, _, place = number.partition("_")
        arrays[array].append(place)
    return [f"{array}_[{','.join(places)}]" if places[0] else array for array, places in arrays.items()]


def last_words(folder: Path, number: str) -> str:
    """The last line that a job printed outside of its runs."""
    with suppress(OSError):
        text = JobPaths(folder, number, 0).stdout.read_bytes()[-TAIL:].decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and "submitit INFO" not in line]
        return shortened(lines[-1], LONGEST) if lines else ""
    return ""


def going_on(folders: list[Path], link: Cluster) -> dict[Path, tuple[str, Path, Ticket]]:
    """The runs that earlier drivers gave away in these folders, whose jobs go on or that have finished.

    Run directory → number of the job, folder, ticket.
    """
    found = [(number, folder, tickets) for folder in folders for number, tickets in submitted(folder)]
    alive = link.alive({number: folder for number, folder, _ in found})
    kept = {}
    for number, folder, tickets in found:
        for ticket in tickets:
            event = ticket.event(folder)
            if number in alive if event is None else event.state == FINISHED:
                kept[ticket.job.path] = number, folder, ticket
    return kept


def submitted(folder: Path) -> Iterator[tuple[str, list[Ticket]]]:
    """The jobs of a driver, with their tickets."""
    for file in folder.glob(f"*{SUBMITTED}"):
        with suppress(OSError, EOFError):
            yield file.name.removesuffix(SUBMITTED), DelayedSubmission.load(file).args[1]
