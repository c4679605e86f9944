"""The launcher that Hydra's sweepers get, for every engine: it composes runs and has a driver make them."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf, open_dict

from ftrun.errors import ConfigError, UserError
from ftrun.experiments.callbacks import Sweep
from ftrun.experiments.overrides import here, plain, with_model_of_source, with_tasks
from ftrun.experiments.queue.driver import Driver
from ftrun.experiments.queue.here import Here
from ftrun.experiments.queue.job import FAILED, FINISHED, Event, Job, Packed, Place
from ftrun.experiments.queue.telling import Telling
from ftrun.runs.ledger import Ledger, key_of
from ftrun.runs.protected import refuse_directory
from ftrun.runs.run import is_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ftrun.experiments.queue.engine import Engine

OWN = "ftrun.experiments.queue."
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # Hydra's own way of saying here
HERE = OWN + "here.Here"
NOTES = "multirun.yaml"  # by which Hydra notes a sweep
POSSIBLE = "possible: hydra/launcher=here, local, ray, slurm"


class Queue(Launcher):
    """One driver for each command; several batches of a sweeper are told as one sweep."""

    def __init__(self, hydra_context: Any, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config
        asked = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        assert isinstance(asked, dict)
        self.target = str(asked.pop("_target_"))
        self.dry = bool(asked.pop("dry", False))
        self.retries = whole("max_retries", asked.pop("max_retries", 0), 0)
        self.processes = whole("processes", asked.pop("processes", 1), 1)
        self.asked = asked
        self.directory = Path(str(config.hydra.sweep.dir)).absolute()

    def setup(self, **options: Any) -> None:
        """It has what it needs."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Have these runs made; each one's score, NaN for one that failed."""
        telling = Sweep.telling or Telling()
        jobs, refused = self.jobs([list(each) for each in job_overrides], initial_job_idx)
        engine = self.engine(telling)
        ledger = Ledger(self.directory)
        if self.dry:
            from ftrun.experiments.queue.dry import show

            show(jobs, refused, ledger, engine)
            tidy(self.directory)
            return []
        Sweep.telling = telling
        telling.expect(len(job_overrides))
        with telling.board.shown():
            for job, reason in refused:
                telling.done(job, Event(job.number, FAILED, message=reason))
            ended = Driver(engine, ledger, telling, self.retries).run(jobs)
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        return [returned(ended.get(number), job_overrides[number - initial_job_idx]) for number in numbers]

    def engine(self, telling: Telling) -> Engine:
        """The engine that hydra/launcher= names, with its settings."""
        if self.target in (BASIC, HERE):
            return Here(telling.board)
        room, _, name = self.target.rpartition(".")
        engine: Engine = getattr(importlib.import_module(room), name)(**self.asked)
        return engine

    def jobs(self, words: list[list[str]], first: int) -> tuple[list[Job], list[tuple[Job, str]]]:
        """The runs, and those that cannot be composed with the reason; Hydra's own errors end the sweep."""
        place, common = Place(), shared(words)
        found: list[Job] = []
        nothing = Packed(b"", b"")
        refused: list[tuple[Job, str]] = []
        for number, own in enumerate(words, first):
            title = " ".join(word for word in own if word not in common) or " ".join(own)
            raw, path = self.composed(own, number)
            job = Job(number, title, path, "", nothing, place, self.processes)
            try:
                raw = with_model_of_source(with_tasks(raw, own, here), own)
            except UserError as error:
                refused.append((job, str(error)))
                continue
            content = Packed.of(raw, found[0].packed if found else None)
            found.append(replace(job, key=key_of(raw), packed=content))
        return found, refused

    def composed(self, words: list[str], number: int) -> tuple[dict[str, Any], Path]:
        """A run's settings and its directory."""
        config = self.loader.load_sweep_config(self.config, words)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        HydraConfig.instance().set_config(config)
        path = self.directory / str(config.hydra.sweep.subdir)
        with open_dict(config):
            del config["hydra"]
        return plain(config), path


def shared(words: list[list[str]]) -> set[str]:
    """The words that all runs of several have."""
    counts = Counter(word for own in words for word in own)
    return {word for word, count in counts.items() if count == len(words) > 1}


def tidy(directory: Path) -> None:
    """Remove what Hydra wrote for a sweep of which nothing was done."""
    if [file.name for file in directory.iterdir()] == [NOTES]:
        (directory / NOTES).unlink()
        directory.rmdir()


def whole(name: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"hydra.launcher.{name}={value}: possible: a whole number from {least}")
    return value


def returned(event: Event | None, words: Sequence[str]) -> JobReturn:
    """What a sweeper is told of a run."""
    score = event.score if event is not None and event.state == FINISHED else float("nan")
    return JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=score)


def launcher_of(hydra_context: Any, task_function: Any, config: DictConfig) -> Launcher:
    """The launcher of a sweep, in place of Hydra's.

    Before anything is written, ConfigError for one that is not ftrun's, and for a directory that cannot be a
    sweep's.
    """
    directory, target = Path(str(config.hydra.sweep.dir)), str(config.hydra.launcher.get("_target_"))
    if target != BASIC and not target.startswith(OWN):
        name = config.hydra.runtime.choices.get("hydra/launcher", target)
        raise ConfigError(f"hydra/launcher={name} is not known to ftrun; {POSSIBLE}")
    if is_run(directory):
        raise ConfigError(f"hydra.sweep.dir={directory} is a run; name another directory")
    refuse_directory("hydra.sweep.dir=", directory)
    return Queue(hydra_context, config)
