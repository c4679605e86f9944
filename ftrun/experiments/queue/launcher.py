"""The launcher that Hydra's sweepers get, for every engine: it composes runs and has a driver make them."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf, open_dict

from ftrun import CONF
from ftrun.errors import ConfigError, UserError
from ftrun.experiments.callbacks import Sweep
from ftrun.experiments.hydra_errors import COMPOSITION, explain
from ftrun.experiments.overrides import here, plain, with_model_of_source, with_tasks
from ftrun.experiments.queue.driver import Driver
from ftrun.experiments.queue.here import Here
from ftrun.experiments.queue.job import FINISHED, Event, Job, Packed, Place
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
LAUNCHER = ("hydra/launcher", "hydra.launcher")
NOTES = "multirun.yaml"  # by which Hydra notes a sweep
POSSIBLE = "possible: hydra/launcher=here, local, ray, slurm"


@dataclass
class Nothing:
    """The settings of `here`: what all engines have is the driver's."""


@dataclass
class Launching:
    """Who makes many runs, as hydra/launcher= and hydra.launcher. say."""

    name: str  # hydra/launcher=local
    target: str
    dry: bool
    retries: int
    processes: int  # of each run
    settings: dict[str, Any]  # of the engine

    @classmethod
    def of(cls, config: DictConfig) -> Launching:
        """As a configuration with Hydra's own part says; ConfigError for a launcher that is not ftrun's."""
        target = str(config.hydra.launcher.get("_target_"))
        name = f"hydra/launcher={config.hydra.runtime.choices.get('hydra/launcher')}"
        if target != BASIC and not target.startswith(OWN):
            raise ConfigError(f"{name} ({target}) is not known to ftrun; {POSSIBLE}")
        own = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        assert isinstance(own, dict)
        own.pop("_target_")
        return cls(
            name,
            target,
            convert("hydra.launcher.dry", own.pop("dry", False), bool),
            whole("max_retries", own.pop("max_retries", 0), 0),
            whole("processes", own.pop("processes", 1), 1),
            own,
        )

    @classmethod
    def asked(cls, words: list[str]) -> Launching:
        """As these words of a command line say."""
        try:
            with hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="ftrun"):
                return cls.of(hydra.compose("config", overrides=words, return_hydra_config=True))
        except COMPOSITION as error:
            raise explain(error, words) from None

    @property
    def inside(self) -> bool:
        """Whether this process makes the runs itself."""
        return self.target in (BASIC, HERE) and self.processes == 1

    def engine(self, telling: Telling) -> Engine:
        """The engine, with its settings."""
        here = self.target in (BASIC, HERE)
        room, _, name = self.target.rpartition(".")
        kind = Nothing if here else getattr(importlib.import_module(room), name)
        engine: Engine = build(kind, self.settings, "hydra.launcher.", self.name)
        return Here(telling.board) if here else engine


def launching_words(words: list[str]) -> tuple[list[str], list[str]]:
    """The words that say who makes runs, and the others."""
    own = [word for word in words if word.partition("=")[0].lstrip("+").startswith(LAUNCHER)]
    return own, [word for word in words if word not in own]


class Queue(Launcher):
    """One driver for each command; several batches of a sweeper are told as one sweep."""

    def __init__(self, hydra_context: Any, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config
        self.launching = Launching.of(config)
        self.directory = Path(str(config.hydra.sweep.dir)).absolute()

    def setup(self, **options: Any) -> None:
        """It has what it needs."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Have these runs made; each one's score, NaN for one that failed."""
        if not job_overrides:
            raise ConfigError(f"no run is asked for: {' '.join(self.ranges())}; possible: range(3) or 0,1,2")
        telling = Sweep.telling or Telling()
        jobs, refused = self.jobs([list(each) for each in job_overrides], initial_job_idx)
        engine = self.launching.engine(telling)
        ledger = Ledger(self.directory)
        if self.launching.dry:
            from ftrun.experiments.queue.dry import show

            show(jobs, refused, ledger, engine)
            return []
        Sweep.telling = telling
        telling.expect(len(job_overrides))
        with telling.board.shown():
            for reason, alike in refused.items():
                telling.refused(alike, reason, others=bool(jobs))
            ended = Driver(engine, ledger, telling, self.launching.retries).run(jobs)
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

    def jobs(self, words: list[list[str]], first: int) -> tuple[list[Job], dict[str, list[Job]]]:
        """The runs, and those that cannot be composed by the reason; Hydra's own errors end the sweep."""
        place, common = Place(), shared(words)
        found: list[Job] = []
        nothing = Packed(b"", b"")
        refused: dict[str, list[Job]] = {}
        for number, own in enumerate(words, first):
            title = " ".join(word for word in own if word not in common) or " ".join(own)
            raw, path = self.composed(own, number)
            job = Job(number, title, path, "", nothing, place, self.launching.processes)
            try:
                raw = with_model_of_source(with_tasks(raw, own, here), own)
            except UserError as error:
                refused.setdefault(str(error), []).append(job)
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
    directory, queue = Path(str(config.hydra.sweep.dir)), Queue(hydra_context, config)
    if not str(config.hydra.sweep.dir).strip():
        raise ConfigError("hydra.sweep.dir= names no directory; possible: hydra.sweep.dir=DIR")
    words: Any = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)  # ${…} is for later
    given = [word for word in words if word.startswith("hydra.run.dir=")]
    if given:
        raise ConfigError(f"{given[0]} is for one run; the directory of a sweep is hydra.sweep.dir=")
    if is_run(directory):
        raise ConfigError(f"hydra.sweep.dir={directory} is a run; name another directory")
    refuse_directory("hydra.sweep.dir=", directory)
    return queue
