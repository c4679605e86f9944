"""From the command line through Hydra to a run, or to the many runs of a sweep."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from ftrun import CONF
from ftrun.errors import (
    ConfigError,
    DiskFull,
    UserError,
    disk_full,
)
from ftrun.experiments.callbacks import Sweep
from ftrun.experiments.ending import say_how_to_go_on
from ftrun.experiments.hydra_errors import COMPOSITION, explain
from ftrun.experiments.making import one
from ftrun.experiments.overrides import (
    fold_words,
    here,
    options_first,
    plain,
    spelt,
    with_model_of_source,
    with_tasks,
)
from ftrun.experiments.queue.launcher import launcher_of, untouched
from ftrun.runs.find import find_runs
from ftrun.runs.protected import refuse_directory
from ftrun.runs.streams import outputs
from ftrun.settings.own import importable, refuse_hidden, with_beside
from ftrun.training.processes.launchers import refuse_sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig


SWEEP = ("-m", "--multirun")
PLACES = ("hydra.run.dir", "hydra.sweep.dir")
OF_SWEEPS = re.compile(r"\W*hydra[./](launcher|sweep|sweeper)\b")  # the words of Hydra's settings


class Stop(BaseException):
    """Carries an error through Hydra, which would print over an Exception and continue a sweep."""


def launch(arguments: list[str]) -> int:
    """Run an experiment or a sweep; returns the exit code, raises what a single run raises."""
    words = spelt(options_first(arguments))
    crossed = not any(word in SWEEP for word in words) and bool(fold_words(words))
    words = every_fold(words)
    importable(words)
    refuse_hidden(words)
    if any(word in SWEEP for word in words):
        refuse_sweep()
    failed = failure_of(with_beside(words))
    if Sweep.directory is not None:
        untouched(Sweep.directory.absolute())
        tidy(Sweep.directory.absolute().parent)
    if isinstance(failed, KeyboardInterrupt | DiskFull):
        say_how_to_go_on(arguments, crossed)
    if failed is not None:
        raise failed
    if Sweep.directory is None or Sweep.telling is None:
        return 0
    code = Sweep.telling.summary(Sweep.directory)
    if crossed:
        show_score(Sweep.directory)
    return code


def failure_of(words: list[str]) -> BaseException | None:
    """Have Hydra compose these words and run what they say; what ended it early, None where nothing did."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back to us
    Sweep.begin()
    plugins: Any = Plugins.instance()
    plugins.instantiate_launcher = launcher_of  # every sweeper asks it for one
    before, sys.argv = sys.argv, [program(), *words]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except Stop as stop:
        reason: BaseException = stop.args[0]
        return reason
    except (KeyboardInterrupt, UserError) as error:  # the latter of a sweep
        return error
    except COMPOSITION as error:
        if isinstance(error, ValueError | RecursionError) and Sweep.directory is not None:
            raise  # the sweep had been composed: it is not about its settings
        return explain(error, words)
    except OSError as error:  # Hydra's own: what a run raises comes out as Stop
        return unwritable(error, words)
    finally:
        sys.argv = before
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
    """One run, as Hydra calls it; a sweep's are made by `queue`."""
    with outputs():
        known = HydraConfig.get()
        path, words = Path(known.runtime.output_dir), known.overrides.task
        try:
            refuse_of_sweeps(OmegaConf.to_container(known.overrides.hydra, resolve=False))
            raw = with_model_of_source(with_tasks(plain(cfg), words, here), words)
            refuse_directory("hydra.run.dir=", path)
            return one(raw, path, again=False)
        except Exception as error:
            raise Stop(disk_full(error, path) or error) from None
        finally:
            tidy(path)


def refuse_of_sweeps(words: Sequence[str]) -> None:
    """ConfigError for what only a sweep heeds, and for a directory without a name."""
    for word in words:
        name, _, value = word.partition("=")
        if OF_SWEEPS.match(name):
            own = "; the directory of one run is hydra.run.dir=" if name == "hydra.sweep.dir" else ""
            raise ConfigError(f"{word} is for a sweep, which is started with ftrun -m …{own}")
        if name == "hydra.run.dir" and not value:
            raise ConfigError("hydra.run.dir= names no directory; possible: hydra.run.dir=DIR")


def unwritable(error: OSError, words: list[str]) -> UserError:
    """A directory for the runs that cannot be made; ConfigError where the command line names it.

    Of a full disk, which any other place on it has as well, a DiskFull.
    """
    if (full := disk_full(error)) is not None:
        return full
    reason = (error.strerror or str(error)).lower()
    given = [word for word in words if word.partition("=")[0] in PLACES]
    if given:
        return ConfigError(f"{given[-1]}: no directory can be made there ({reason}); choose another place")
    return UserError(f"{error.filename} cannot be made ({reason}); possible: hydra.run.dir=DIR")


def tidy(path: Path) -> None:
    """Remove the directories that Hydra made for what never began; what stood there before stays."""
    for place in (path, path.parent, path.parent.parent):
        if Path.cwd() not in place.parents or not place.is_dir() or any(place.iterdir()):
            return
        if place.absolute() in Sweep.standing:
            return
        place.rmdir()
