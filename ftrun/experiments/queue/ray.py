"""The engine of a Ray cluster: every run is a task of Ray core, on whichever machine has room for it."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ftrun.errors import ConfigError, counted, told
from ftrun.experiments.queue import capacity
from ftrun.experiments.queue.job import FAILED, KILLED, STOPPED, Event, Job
from ftrun.experiments.queue.local import THREADS
from ftrun.experiments.queue.ray_cluster import POSSIBLE, Machines, amount, cause_of, connect, installed
from ftrun.experiments.queue.ray_task import Driving, Unfit, make
from ftrun.runs.ledger import code_version

NODE = "ray.io/node-id"  # the label that every machine has
SHARED = ".ray-"  # begins the name of the file by which a machine shows that it has the directory
DEATHS = {  # what became of a process, by Ray's name for it
    "WorkerCrashedError": "its process was killed",
    "NodeDiedError": "its machine was lost",
    "OutOfMemoryError": "its process was killed by Ray, as the memory of its machine was nearly exhausted",
}
LASTING = ("RuntimeEnvSetupError", "TaskUnschedulableError")  # a second time they would be the same


@dataclass
class Ray:
    """`hydra/launcher=ray`: as many runs as the machines of a cluster have room for; these come and go."""

    inside: ClassVar[bool] = False
    address: str | None
    num_cpus: float | str
    num_gpus: float | str
    options: dict[str, Any] | None
    runtime_env: dict[str, Any] | None
    running: dict[Any, Job] = field(init=False, default_factory=dict)  # by the reference to its event
    task: Any = field(init=False, default=None)
    driving: Driving | None = field(init=False, default=None)
    machines: Machines | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        for name, least in (("num_cpus", 1), ("num_gpus", 0)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value != "auto" and not (number and value >= least):
                raise ConfigError(f"hydra.launcher.{name}={value}: possible: auto, or a number from {least}")
        for name in ("options", "runtime_env"):
            if not isinstance(value := getattr(self, name), dict | None):
                raise ConfigError(f"hydra.launcher.{name}={value}: possible: null, or {{NAME: VALUE}}")
        if "://" in str(self.address):
            raise ConfigError(
                f"hydra.launcher.address={self.address}: the command has to be given on a machine of the"
                f" cluster; {POSSIBLE}"
            )

    def open(self, directory: Path, jobs: list[Job], expected: int) -> None:
        ray, job = installed(), jobs[0]
        connect(self.address, self.runtime_env)
        self.machines = Machines({})  # from here on there is something to close
        needs = self.needs(job, bool(ray.cluster_resources().get("GPU")))
        self.machines.needs = needs
        self.task = self.remote(needs)
        environment = dict.fromkeys(THREADS, str(max(1, int(needs["CPU"] / job.processes))))
        if not needs["GPU"]:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        near = next(place for place in (directory, *directory.parents) if place.is_dir())
        handle, shared = tempfile.mkstemp(prefix=SHARED, dir=near)
        os.close(handle)
        self.driving = Driving(code_version(), shared, job.place, environment)
        self.machines.ask(self.driving)
        self.machines.count()

    def needs(self, job: Job, gpus: bool) -> dict[str, float]:
        """What a run takes, in Ray's names of resources; `gpus`: whether any machine has some."""
        raw, own, given = job.raw, job.processes, self.options or {}
        wanted = own if gpus and raw["device"] != "cpu" else 0
        return {
            "CPU": own if self.num_cpus == "auto" else float(self.num_cpus),
            "GPU": wanted if self.num_gpus == "auto" else float(self.num_gpus),
            "memory": float(given.get("memory") or own * capacity.needed([job])),
            **(given.get("resources") or {}),
        }

    def remote(self, needs: dict[str, float]) -> Any:
        """The task of a run; ConfigError for options that Ray does not have.

        A process that has used a GPU cannot change to another, so that Ray has it make one run only. Where a
        run takes all GPUs of its machine there is no other.
        """
        ray = installed()
        most = max(node["Resources"].get("GPU", 0) for node in ray.nodes())
        again = {"max_calls": 0} if most <= needs["GPU"] else {}
        own = {"num_cpus": needs["CPU"], "num_gpus": needs["GPU"], "memory": needs["memory"]}
        try:
            return ray.remote(**own, **again, max_retries=0)(make).options(**(self.options or {}))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"hydra.launcher.options={self.options}: {told(error)}") from None

    def workers(self) -> int:
        return self.machines.count() if self.machines else 0

    def room(self) -> int:
        return max(0, self.workers() - len(self.running))

    def start(self, job: Job) -> None:
        task = self.task
        if self.machines and self.machines.unfit:
            labels = (self.options or {}).get("label_selector") or {}
            others = {NODE: f"!in({','.join(sorted(self.machines.unfit))})"}
            task = task.options(**(self.options or {}) | {"label_selector": labels | others})
        self.running[task.remote(job, self.driving)] = job

    def wait(self, seconds: float) -> list[Event]:
        if not self.running:
            time.sleep(seconds)
            return []
        ray, waiting = installed(), list(self.running)
        ended, _ = ray.wait(waiting, num_returns=1, timeout=seconds)
        if ended:
            ended, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self.event(each) for each in ended]

    def event(self, ended: Any) -> Event:
        """How a run ended, or what became of its process."""
        ray, job = installed(), self.running.pop(ended)
        try:
            found: Event | Unfit = ray.get(ended)
        except ray.exceptions.TaskCancelledError:
            return Event(job.number, STOPPED, message="it was stopped before it began")
        except ray.exceptions.RayTaskError as error:
            return Event(job.number, FAILED, message=told(cause_of(error)), trace=str(error))
        except ray.exceptions.RayError as error:
            name = type(error).__name__
            state = FAILED if name in LASTING else KILLED
            return Event(job.number, state, message=DEATHS.get(name) or told(error))
        if isinstance(found, Unfit):
            assert self.machines is not None
            return Event(job.number, KILLED, message=self.machines.leave_out(found))
        return found

    def stop(self) -> None:
        """Ray interrupts what runs as Ctrl-C does, and gives up what waits."""
        for each in self.running:
            installed().cancel(each, recursive=False)

    def close(self) -> None:
        if self.machines is not None:
            ray = installed()
            for each in self.running:
                with suppress(ray.exceptions.RayError):
                    ray.cancel(each, force=True, recursive=False)
            ray.shutdown()
        self.running.clear()
        if self.driving is not None:
            Path(self.driving.shared).unlink(missing_ok=True)

    def describe(self) -> str:
        assert self.machines is not None
        needs = self.machines.needs.items()
        size = [amount(name, value) for name, value in needs if value and name != "memory"]
        where = counted(self.machines.number, "machine")
        return f"by Ray on {where}, {self.machines.slots} at the same time of {' and '.join(size)} each"
