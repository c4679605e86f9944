"""From the command line through Hydra to a run, or to the many runs of a sweep."""

from __future__ import annotations

import os
import sys
import traceback
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ftrun import CONF
from ftrun.data.sources import look
from ftrun.errors import (
    ConfigError,
    DiskFull,
    Interrupted,
    UserError,
    disk_full,
    memory_told,
)
from ftrun.experiments.callbacks import Sweep, summary
from ftrun.experiments.ending import killed, say_how_to_go_on
from ftrun.experiments.hydra_errors import explain
from ftrun.experiments.overrides import (
    COMPOSITION,
    fold_words,
    here,
    hidden,
    importable,
    options_first,
    plain,
    sourced,
    with_model_of_source,
    with_tasks,
)
from ftrun.experiments.sweep import Failed, noted
from ftrun.reports.numbers import short
from ftrun.runs import warm
from ftrun.runs.collector import importing
from ftrun.runs.find import find_runs
from ftrun.runs.ledger import Ledger
from ftrun.runs.protected import refuse_directory
from ftrun.runs.run import Run, is_run
from ftrun.runs.streams import outputs
from ftrun.runs.terminal import say
from ftrun.runs.typed import command, setting
from ftrun.settings.read import checked, read
from ftrun.training.processes.launchers import refuse_sweep
from ftrun.training.processes.ranks import continued_by

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ftrun.settings.schema import Settings

SWEEP = ("-m", "--multirun")
LONGEST = 40  # characters of a setting in the line of a failure


class Stop(BaseException):
    """Carries an error through Hydra, which would print over an Exception and continue a sweep."""


def launch(arguments: list[str]) -> int:
    """Run an experiment or a sweep; returns the exit code, raises what a single run raises."""
    words = [part for word in options_first(arguments) for part in sourced(word)]
    crossed = not any(word in SWEEP for word in words) and bool(fold_words(words))
    words = every_fold(words)
    importable(words)
    hidden(words)
    if any(word in SWEEP for word in words):
        refuse_sweep()
    failed = failure_of(words)
    if isinstance(failed, Interrupted | KeyboardInterrupt | DiskFull):
        say_how_to_go_on(arguments, crossed)
    if failed is not None:
        raise failed
    if Sweep.directory is None:
        return 0
    code = summary(Sweep.directory, Sweep.begun, Sweep.finished)
    if crossed:
        show_score(Sweep.directory)
    return code


def failure_of(words: list[str]) -> BaseException | None:
    """Have Hydra compose these words and run what they say; what ended it early, None where nothing did."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back to us
    Sweep.begin()
    before, sys.argv = sys.argv, [program(), *words]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except Stop as stop:
        reason: BaseException = stop.args[0]
        return reason
    except KeyboardInterrupt as interrupt:
        return interrupt
    except BrokenExecutor as error:
        return killed(error)
    except COMPOSITION as error:
        if isinstance(error, ValueError | RecursionError) and Sweep.directory is not None:
            raise  # the sweep had been composed: it is not about its settings
        return explain(error, words)
    except OSError as error:  # Hydra's own: what a run raises comes out as Stop
        return unwritable(error, words)
    finally:
        sys.argv = before
        warm.end()
    return None


def every_fold(words: list[str]) -> list[str]:
    """The words of a cross-validation as those of a sweep over its folds; hydra.run.dir= is its directory."""
    if not (folds := fold_words(words)):
        return words
    values = ",".join(word.partition("=")[2] for word in folds)
    sweep = [] if any(word in SWEEP for word in words) else ["-m"]
    return [
        *sweep,
        *(word.replace("hydra.run.dir=", "hydra.sweep.dir=") for word in words),
        f"task.fold={values}",
    ]


def show_score(directory: Path) -> None:
    """The report of a cross-validation that was started as one run, if any of its runs finished."""
    from ftrun.reports import table

    if find_runs([directory]):
        table.write([str(directory)])


def program() -> str:
    """Hydra's shell completion asks by this name."""
    return "ftrun" if sys.argv[0].endswith(".py") else sys.argv[0]


def job(cfg: DictConfig) -> float:
    """One run, as Hydra calls it, perhaps in a process of its own."""
    with outputs():
        return made(cfg)


def made(cfg: DictConfig) -> float:
    """The score of one run; a sweep survives its failure, whose score is then not a number."""
    known = HydraConfig.get()
    path = Path(known.runtime.output_dir)
    sweeps = known.mode == RunMode.MULTIRUN
    overrides = " ".join(known.overrides.task)
    if sweeps:
        warm.begin()  # here, as a launcher may start processes that run several
        print(f"run {known.job.num}: {overrides}", flush=True)
    try:
        words = known.overrides.task
        raw = with_model_of_source(with_tasks(plain(cfg), words, here), words)
        if not sweeps:
            refuse_directory("hydra.run.dir=", path)
            return one(raw, path, again=False)
        with memory_told():
            return noted(raw, path, Ledger(Path(str(known.sweep.dir)).absolute()), partial(one, again=True))
    except Exception as error:
        full = disk_full(error, path)
        if sweeps and full is None and not isinstance(error, Interrupted):
            show(error, known.job.num, overrides)
            return Failed("nan")
        raise Stop(full or error) from None
    finally:
        if not sweeps:
            tidy(path)


def one(raw: dict[str, Any], path: Path, again: bool) -> float:
    """One run; with `again`, one of the same settings that is there already is continued."""
    settings = checked(raw)
    if not again:
        say(f"{opening(settings)}: {os.path.relpath(path)}")
    if not is_run(path):
        looked(raw)
    with importing("torch"):
        from ftrun.experiments import start
    from ftrun.settings.settled import agree

    if raw["pretrain"]["name"] != "none":
        from ftrun.experiments.pretrain import pretrained

        own = [word for word in sys.argv[1:] if not word.startswith("hydra.run.dir=")]
        whole = command(*own, setting("hydra.run.dir", path))
        with continued_by(f"to continue the whole: {whole}"):
            raw = pretrained(raw, beside=path.parent if again else path)
        settings = read(raw)
    if again and is_run(path) and agree(raw, Run(path).settings):
        return start.resume(path)
    return start.run(settings, path)


def looked(raw: dict[str, Any]) -> None:
    """Refuse a run whose files are not there, before anything heavy is imported."""
    compose = raw["compose"]
    others = raw["source"], raw["pretrain"].get("task"), compose, compose.get("text")
    look(raw["task"], *(raw["sequence"] or []), *others)


def opening(settings: Settings) -> str:
    """What a run is, in the order of its command line; said before anything heavy is imported."""
    model = short(settings.model.name)
    return f"{settings.strategy_name} · {settings.task.name} · {model} · seed {settings.seed}"


def unwritable(error: OSError, words: list[str]) -> UserError:
    """A directory for the runs that cannot be made; ConfigError where the command line names it."""
    reason = (error.strerror or str(error)).lower()
    given = [word for word in words if word.partition("=")[0] in ("hydra.run.dir", "hydra.sweep.dir")]
    if given:
        return ConfigError(f"{given[-1]}: no directory can be made there ({reason}); choose another place")
    return UserError(f"{error.filename} cannot be made ({reason}); possible: hydra.run.dir=DIR")


def tidy(path: Path) -> None:
    """Remove the directories that Hydra made for a run which never began."""
    for place in (path, path.parent, path.parent.parent):
        if Path.cwd() not in place.parents or not place.is_dir() or any(place.iterdir()):
            return
        place.rmdir()


def show(error: Exception, number: int, overrides: str) -> None:
    """A failure in a sweep, when it happens: the reason, then of which run, or the traceback of a bug."""
    which = " ".join(brief(word) for word in overrides.split())
    if isinstance(error, UserError):
        print(
            f"ftrun: run {number} failed: {' '.join(str(error).split())} ({which})",
            file=sys.stderr,
            flush=True,
        )
    else:
        print(f"ftrun: run {number} failed: {which}", file=sys.stderr)
        traceback.print_exception(error)


def brief(word: str) -> str:
    """One word of a command line, in at most LONGEST characters: its name, and the end of its value."""
    key, equals, value = word.partition("=")
    room = max(LONGEST - len(key) - len(equals), 8)
    return word if len(value) <= room else f"{key}{equals}…{value[1 - room :]}"
