"""The settings of SLURM's engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ftrun.errors import ConfigError
from ftrun.settings.checks import above, at_least

NUMBERS = ("timeout_min", "cpus_per_task", "runs_per_job", "array_parallelism", "signal_delay_s", "interval")
TOGETHER = "a run of several processes is one job with hydra.launcher.processes=N"
CLUSTERS = ("slurm", "local")


@dataclass
class SlurmSettings:
    """Those of conf/hydra/launcher/slurm.yaml, as SLURM's users know them."""

    cluster: str  # slurm, or submitit's local processes
    runs_per_job: int
    array_parallelism: int  # jobs at the same time
    array_size: int  # jobs of one sbatch
    timeout_min: int
    signal_delay_s: int  # before the time limit
    cpus_per_task: int
    gpus_per_node: int
    tasks_per_node: int
    interval: int  # seconds between two questions to SLURM
    mem_gb: float | None
    name: str
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    setup: list[str]
    additional_parameters: dict[str, Any]

    def __post_init__(self) -> None:
        if self.tasks_per_node != 1:
            raise ConfigError(f"hydra.launcher.tasks_per_node={self.tasks_per_node}: possible: 1; {TOGETHER}")
        if self.cluster not in CLUSTERS:
            raise ConfigError(f"hydra.launcher.cluster={self.cluster}: possible: {', '.join(CLUSTERS)}")
        for name in (*NUMBERS, "array_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"hydra.launcher.{name}={value}: possible: a whole number from 1")
        at_least("hydra.launcher.gpus_per_node", self.gpus_per_node, 0)
        above("hydra.launcher.mem_gb", self.mem_gb, 0)
        if self.signal_delay_s >= 60 * self.timeout_min:
            raise ConfigError(
                f"hydra.launcher.signal_delay_s={self.signal_delay_s}: possible: fewer seconds than the"
                f" {60 * self.timeout_min} of hydra.launcher.timeout_min={self.timeout_min}"
            )
        if self.cluster == "local":
            self.array_parallelism = min(
                self.array_parallelism, max(1, (os.cpu_count() or 1) // self.cpus_per_task)
            )
