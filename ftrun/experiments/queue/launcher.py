"""The launcher that Hydra's sweepers get, for every engine: it composes runs and has a driver make them."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
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
from ftrun.runs.ledger import LEDGER, Ledger, key_of
from ftrun.runs.protected import refuse_directory
from ftrun.runs.run import is_run
from ftrun.settings.checks import convert
from ftrun.settings.resolve import build

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ftrun.experiments.queue.engine import Engine

OWN = "ftrun.experiments.queue."
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # Hydra's own way of saying here
HERE = OWN + "here.Here"
NOTES = "multirun.yaml"  # by which Hydra notes a sweep
POSSIBLE = "possible: hydra/launcher=here, local, ray, slurm"


@dataclass
class Nothing:
    """The settings of `here`: what all engines have is the driver's."""


class Queue(Launcher):
    """One driver for each command; several batches of a sweeper are told as one sweep."""

    def __init__(self, hydra_context: Any, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config
        asked = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        assert isinstance(asked, dict)
        self.target = str(asked.pop("_target_"))
        self.dry = convert("hydra.launcher.dry", asked.pop("dry", False), bool)
        self.retries = whole("max_retries", asked.pop("max_retries", 0), 0)
        self.processes = whole("processes", asked.pop("processes", 1), 1)
        self.asked = asked
        self.directory = Path(str(config.hydra.sweep.dir)).absolute()

    def setup(self, **options: Any) -> None:
        """It has what it needs."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Have these runs made; each one's score, NaN for one that failed."""
        if not job_overrides:
            raise ConfigError(f"no run is asked for: {' '.join(self.ranges())}; possible: range(3) or 0,1,2")
        telling = Sweep.telling or Telling()
        jobs, refused = self.jobs([list(each) for each in job_overrides], initial_job_idx)
        engine = self.engine(telling)
        ledger = Ledger(self.directory)
        if self.dry:
            from ftrun.experiments.queue.dry import show

            show(jobs, refused, ledger, engine)
            return []
        Sweep.telling = telling
        telling.expect(len(job_overrides))
        with telling.board.shown():
            for job, reason in refused:
                telling.done(job, Event(job.number, FAILED, message=reason))
            ended = Driver(engine, ledger, telling, self.retries).run(jobs)
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        return [returned(ended.get(number), job_overrides[number - initial_job_idx]) for number in numbers]

    def beneath(self, name: str) -> Path:
        """The directory of a run, in that of the sweep. Raises ConfigError for any other."""
        parts = Path(name).parts or (LEDGER,)
        if Path(name).is_absolute() or ".." in parts or parts[0] == LEDGER or parts[0].startswith("."):
            raise ConfigError(
                f"hydra.sweep.subdir={name} is no directory of a run in {self.directory}; possible:"
                " '${hydra.job.num}-${strategy}'"
            )
        return self.directory / name

    def ranges(self) -> list[str]:
        """The words of the command line that have no value for any run."""
        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(
            [*self.config.hydra.overrides.task]
        )
        return [
            each.input_line for each in parsed if each.is_sweep_override() and not [*each.sweep_iterator()]
        ]

    def engine(self, telling: Telling) -> Engine:
        """The engine that hydra/launcher= names, with its settings."""
        here = self.target in (BASIC, HERE)
        room, _, name = self.target.rpartition(".")
        kind = Nothing if here else getattr(importlib.import_module(room), name)
        engine = build(kind, self.asked, "hydra.launcher.", f"hydra/launcher={chosen(self.config)}")
        return Here(telling.board) if here else engine

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
        refuse_shared(found)
        return found, refused

    def composed(self, words: list[str], number: int) -> tuple[dict[str, Any], Path]:
        """A run's settings and its directory."""
        config = self.loader.load_sweep_config(self.config, words)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        HydraConfig.instance().set_config(config)
        path = self.beneath(str(config.hydra.sweep.subdir))
        with open_dict(config):
            del config["hydra"]
        return plain(config), path


def chosen(config: DictConfig) -> str:
    """The option that hydra/launcher= names."""
    return str(config.hydra.runtime.choices.get("hydra/launcher"))


def refuse_shared(jobs: list[Job]) -> None:
    """ConfigError where two different runs would have one directory."""
    keys: dict[Path, str] = {}
    for job in jobs:
        if keys.setdefault(job.path, job.key) != job.key:
            raise ConfigError(
                f"hydra.sweep.subdir= gives several runs the directory {job.path.name}; possible:"
                " '${hydra.job.num}-${strategy}'"
            )


def shared(words: list[list[str]]) -> set[str]:
    """The words that all runs of several have."""
    counts = Counter(word for own in words for word in own)
    return {word for word, count in counts.items() if count == len(words) > 1}


def untouched(directory: Path) -> None:
    """Remove what Hydra wrote for a sweep of which nothing was done."""
    if directory.is_dir() and [file.name for file in directory.iterdir()] == [NOTES]:
        (directory / NOTES).unlink()
        if directory not in (Path.cwd(), *Path.cwd().parents):
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
        raise ConfigError(f"hydra/launcher={chosen(config)} ({target}) is not known to ftrun; {POSSIBLE}")
    if not str(config.hydra.sweep.dir).strip():
        raise ConfigError("hydra.sweep.dir= names no directory; possible: hydra.sweep.dir=DIR")
    given = [word for word in config.hydra.overrides.hydra if word.startswith("hydra.run.dir=")]
    if given:
        raise ConfigError(f"{given[0]} is for one run; the directory of a sweep is hydra.sweep.dir=")
    if is_run(directory):
        raise ConfigError(f"hydra.sweep.dir={directory} is a run; name another directory")
    refuse_directory("hydra.sweep.dir=", directory)
    return Queue(hydra_context, config)
