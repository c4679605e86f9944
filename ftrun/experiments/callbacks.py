"""Hydra callbacks of a sweep, which record its directory and write its report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from hydra.experimental.callback import Callback
from omegaconf import open_dict

from ftrun.experiments.queue.composing import Composer
from ftrun.runs.find import find_runs

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ftrun.experiments.queue.telling import Telling


class Sweep(Callback):
    """Hydra calls it in the process that starts the runs of a sweep, wherever these run, or a single one."""

    directory: Path | None = None
    single: Path | None = None  # the directory of a run that is no sweep's
    telling: Telling | None = None  # of a sweep whose runs are made
    standing: frozenset[Path] = frozenset()  # the directories above the runs that Hydra has not made

    @classmethod
    def begin(cls) -> None:
        """Forget what was before, in this process."""
        cls.directory, cls.single, cls.telling, cls.standing = None, None, None, frozenset()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.single = Path(str(config.hydra.run.dir))
        Sweep.standing = standing(Sweep.single)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.directory = Path(str(config.hydra.sweep.dir))
        Sweep.standing = standing(Sweep.directory)
        prefer_command_line(config)
        hydra: Any = GlobalHydra.instance().hydra
        hydra.config_loader = Composer(hydra.config_loader)


class Page(Callback):
    """Ends a sweep with its report: on the terminal, and in its directory with the plots."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from ftrun.reports import table

        place = Path(str(config.hydra.sweep.dir))
        if place.is_dir() and find_runs([str(place)]):
            table.write([str(place)], output=str(place / "report.html"), plots=str(place))
            table.write([str(place)])
            print(f"report with plots: {os.path.relpath(place / 'report.html')}")


def standing(path: Path) -> frozenset[Path]:
    """The directory and those above it, as far as they are there."""
    place = path.absolute()
    return frozenset(each for each in (place, *place.parents) if each.is_dir())


def prefer_command_line(config: DictConfig) -> None:
    """Drop a preset's sweep over a setting that the command line sets, which Hydra would combine."""
    params = config.hydra.sweeper.get("params")
    for word in config.hydra.overrides.task:
        key = str(word).partition("=")[0]
        if params and key in params:
            with open_dict(params):
                del params[key]
