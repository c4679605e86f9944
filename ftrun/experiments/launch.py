"""From the command line through Hydra to a run, or to the many runs of a sweep."""

from __future__ import annotations

import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ftrun import CONF
from ftrun.errors import ConfigError, Interrupted, UserError
from ftrun.experiments.hydra_errors import explain
from ftrun.runs.run import find_runs
from ftrun.settings.schema import read

if TYPE_CHECKING:
    from omegaconf import DictConfig

SWEEP = ("-m", "--multirun")
# Hydra's options that are followed by a value
VALUED = "--config-dir -cd --config-path -cp --config-name -cn --cfg -c --package -p --info -i".split()
# what Hydra raises about settings and files; what a run raises comes out as Stop
COMPOSITION = (HydraException, OmegaConfBaseException, YAMLError, ValueError)


class Stop(BaseException):
    """Carries an error through Hydra, which would print over an Exception and go on with a sweep."""


class Sweep(Callback):
    """Hydra calls it in the process that starts the runs of a sweep, wherever these run."""

    directory: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.directory = Path(str(config.hydra.sweep.dir))
        said_once(config)


class Page(Callback):
    """Ends a sweep with its report: on the terminal, and in its directory with the pictures."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from ftrun.commands import report

        place = Path(str(config.hydra.sweep.dir))
        if find_runs([str(place)]):
            report.main([str(place), "--output", str(place / "report.html"), "--plots", str(place)])
            report.main([str(place)])
            print(f"with pictures: {os.path.relpath(place / 'report.html')}")


def said_once(config: DictConfig) -> None:
    """A preset's sweep over a setting gives way to the command line's, which Hydra would multiply with it."""
    params = config.hydra.sweeper.get("params")
    for word in config.hydra.overrides.task:
        key = str(word).partition("=")[0]
        if params and key in params:
            with open_dict(params):
                del params[key]


def launch(arguments: list[str]) -> int:
    """Run an experiment or a sweep; returns the exit code, raises what a single run raises."""
    words = [part for word in options_first(arguments) for part in sourced(word)]
    importable(words)
    hidden(words)
    if os.environ.get("RANK", "0") != "0":
        words.append("hydra.run.dir=.")  # the run directory is the first process's
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and any(word in SWEEP for word in words):
        raise ConfigError(
            "-m does not go with several processes: torchrun and accelerate launch start one run"
        )
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back to us
    Sweep.directory = None
    before, sys.argv = sys.argv, [program(), *words]
    failed: BaseException | None = None
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except Stop as stop:
        failed = stop.args[0]
    except COMPOSITION as error:
        if isinstance(error, ValueError) and Sweep.directory is not None:
            raise  # the sweep had been composed: it is not about its settings
        failed = explain(error, words)
    finally:
        sys.argv = before
    if failed is not None:
        raise failed
    return 0 if Sweep.directory is None else summary(Sweep.directory)


def program() -> str:
    """Hydra's shell completion asks by this name."""
    return "ftrun" if sys.argv[0].endswith(".py") else sys.argv[0]


def options_first(arguments: list[str]) -> list[str]:
    """Options before settings, because Hydra's parser refuses `ftrun strategy=lora -m rank=1,2`."""
    options: list[str] = []
    settings: list[str] = []
    for word in arguments:
        takes = bool(options) and options[-1] in VALUED and not word.startswith("-")
        (options if word.startswith("-") or takes else settings).append(word)
    return options + settings


def sourced(word: str) -> list[str]:
    """source=DIR is source=run with this directory, source=TASK puts the task's settings there."""
    key, _, value = word.partition("=")
    if key != "source" or not value:
        return [word]
    names = value.split(",")
    if value == "run":
        raise ConfigError("source=run: give the run's directory, source=DIR")
    if all((CONF / f"source/{name}.yaml").is_file() for name in names):
        return [word]
    if any((CONF / f"source/{name}.yaml").is_file() for name in names):
        raise ConfigError(f"source={value} mixes what is an option and what is not; sweep over one kind")
    if any("/" in name or Path(name).is_dir() for name in names):
        quoted = ",".join(f"'{Path(name).resolve()}'" for name in names)
        return ["source=run", f"source.run={quoted}"]
    return [f"task@source={value}"]


def importable(words: list[str]) -> None:
    """Put the current directory, and the one that holds --config-dir, where user modules are found."""
    places = [Path.cwd(), *(place.resolve().parent for place in own_options(words))]
    sys.path += [str(place) for place in places if str(place) not in sys.path]


def own_options(words: list[str]) -> list[Path]:
    """The directory of --config-dir, if one is given."""
    pairs = zip((word.partition("=") for word in words), [*words[1:], ""], strict=False)
    return [Path(joined or value) for (name, _, joined), value in pairs if name in ("--config-dir", "-cd")]


def hidden(words: list[str]) -> None:
    """Raises ConfigError where a user's option has the name of ftrun's own, which Hydra would take."""
    for place in own_options(words):
        for word in words:
            group, _, names = word.partition("=")
            for file in (f"{group.partition('@')[0]}/{name}.yaml" for name in names.split(",")):
                if (
                    (place / file).is_file()
                    and (CONF / file).is_file()
                    and not same(place / file, CONF / file)
                ):
                    raise ConfigError(f"{place / file} has the name of an option of ftrun itself; rename it")


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def job(cfg: DictConfig) -> float:
    """One run, as Hydra calls it; a sweep survives its failure, whose score is then not a number."""
    known = HydraConfig.get()
    path = Path(known.runtime.output_dir)
    sweeps = known.mode == RunMode.MULTIRUN
    overrides = " ".join(known.overrides.task)
    if sweeps:
        print(f"run {known.job.num}: {overrides}", flush=True)
    try:
        raw = with_model_of_source(with_tasks(plain(cfg), known.overrides.task), known.overrides.task)
        if not sweeps:
            return one(raw, path, again=False)
        from ftrun.experiments.sweep import noted

        return noted(raw, path, Path(str(known.sweep.dir)).absolute(), partial(one, again=True))
    except Exception as error:
        if sweeps and not isinstance(error, Interrupted):
            show(error, overrides)
            return float("nan")
        raise Stop(error) from None
    finally:
        if not sweeps:
            tidy(path)


def with_tasks(raw: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """The settings with every task of a sequence spelt out: an option, a file, or settings over task."""
    if not isinstance(raw["sequence"], list):
        return raw
    nodes = [task_of(each, raw["task"], words) for each in raw["sequence"]]
    return raw | {"sequence": nodes, "task": nodes[0] if nodes else raw["task"]}


def task_of(given: Any, task: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """One task's settings; what the command line says of `task.` holds for every task."""
    if not isinstance(given, dict) and Path(str(given)).suffix:
        given = {"train": given}
    if isinstance(given, dict):
        if "train" not in given:
            return task | given
        first = given["train"][0] if isinstance(given["train"], list) else given["train"]
        own = {"name": Path(str(first)).stem, "validation": None, "test": None}  # not another file's
        return task | own | given
    overrides = [f"task={given}", *(word for word in words if word.startswith("task."))]
    try:
        return plain(hydra.compose("config", overrides=overrides).task)
    except COMPOSITION as error:
        raise explain(error, overrides) from None


def with_model_of_source(raw: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """The settings with the network of source=RUN, unless another one is asked for."""
    from ftrun.runs.run import Run

    if raw["source"].get("kind") != "run" or any(word.lstrip("+~").startswith("model") for word in words):
        return raw
    return raw | {"model": Run.open(raw["source"]["run"]).settings["model"]}


def one(raw: dict[str, Any], path: Path, again: bool) -> float:
    """One run; with `again`, one of the same settings that is there already is gone on with."""
    settings = read(raw)
    from ftrun.experiments import sequence
    from ftrun.runs.run import Run, is_run

    if raw["pretrain"]["name"] != "none":
        from ftrun.experiments.pretrain import pretrained

        raw = pretrained(raw, beside=path.parent if again else path)
        settings = read(raw)
    if again and is_run(path) and Run(path).settings == raw:
        return sequence.resume(path)
    return sequence.run(settings, path)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The composed configuration as a plain dict, nothing left to interpolate."""
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise explain(error, []) from None


def tidy(path: Path) -> None:
    """Remove the directories that Hydra made for a run which never began."""
    for place in (path, path.parent, path.parent.parent):
        if Path.cwd() not in place.parents or not place.is_dir() or any(place.iterdir()):
            return
        place.rmdir()


def show(error: Exception, overrides: str) -> None:
    """A failure in a sweep, when it happens: a line, or the traceback of a bug."""
    print(f"ftrun: failed: {overrides}", file=sys.stderr, end=": " if isinstance(error, UserError) else "\n")
    if isinstance(error, UserError):
        print(error, file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)


def summary(directory: Path) -> int:
    """How many runs of a sweep have a result; read from their directories, for launchers run anywhere."""
    runs = [path for path in directory.iterdir() if path.is_dir()]
    finished = [path for path in runs if (path / "result.json").is_file()]
    print(f"{len(finished)} of {len(runs)} runs finished: ftrun report {os.path.relpath(directory)}")
    return 0 if len(finished) == len(runs) else 1


def compose(overrides: list[str], config_dir: str | None = None) -> dict[str, Any]:
    """The configuration of a command line, as a run would see it."""
    importable(["--config-dir", config_dir] if config_dir else [])
    extra = [f"hydra.searchpath=['file://{Path(config_dir).resolve()}']"] if config_dir else []
    if config_dir and not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir} is not a directory")
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="ftrun"):
            cfg = hydra.compose("config", overrides=overrides + extra)
    except COMPOSITION as error:
        raise explain(error, overrides) from None
    return plain(cfg)
