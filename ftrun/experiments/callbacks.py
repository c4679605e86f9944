"""Hydra callbacks of a sweep, which record its directory and write its report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf, open_dict

from ftrun.runs.find import find_runs
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


KEPT = 100  # composed settings of runs that wait, of half a megabyte each


class ComposedOnce:
    """A loader that composes each run of a sweep once.

    Hydra asks twice: for all runs, to refuse mistakes before the first one, and for each when it starts.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.waiting: dict[tuple[str, ...], DictConfig] = {}
        self.left: set[tuple[str, ...]] = set()  # composed when too many were waiting

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __reduce__(self) -> Any:
        return itself, (self.loader,)  # another process gets the loader alone

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        key = tuple(sweep_overrides)
        if key in self.waiting:
            config = self.waiting.pop(key)
            OmegaConf.copy_cache(from_config=master_config, to_config=config)
            return config
        config = self.loader.load_sweep_config(master_config, sweep_overrides)
        if key in self.left:
            self.left.remove(key)
        elif len(self.waiting) < KEPT:
            self.waiting[key] = config
        else:
            self.left.add(key)
        return config


def itself(loader: Any) -> Any:
    return loader


class Sweep(Callback):
    """Hydra calls it in the process that starts the runs of a sweep, wherever these run, or a single one."""

    directory: Path | None = None
    single: Path | None = None  # the directory of a run that is no sweep's

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.single = Path(str(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.directory = Path(str(config.hydra.sweep.dir))
        prefer_command_line(config)
        hydra: Any = GlobalHydra.instance().hydra
        hydra.config_loader = ComposedOnce(hydra.config_loader)


class Page(Callback):
    """Ends a sweep with its report: on the terminal, and in its directory with the plots."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from ftrun.reports import table

        place = Path(str(config.hydra.sweep.dir))
        if find_runs([str(place)]):
            table.write([str(place)], output=str(place / "report.html"), plots=str(place))
            table.write([str(place)])
            print(f"report with plots: {os.path.relpath(place / 'report.html')}")


def prefer_command_line(config: DictConfig) -> None:
    """Drop a preset's sweep over a setting that the command line sets, which Hydra would combine."""
    params = config.hydra.sweeper.get("params")
    for word in config.hydra.overrides.task:
        key = str(word).partition("=")[0]
        if params and key in params:
            with open_dict(params):
                del params[key]


def summary(directory: Path) -> int:
    """How many runs of a sweep have a result; read from their directories, for launchers run anywhere."""
    runs = [path for path in directory.iterdir() if path.is_dir()]
    finished = [path for path in runs if (path / "result.json").is_file()]
    print(f"{len(finished)} of {len(runs)} runs finished: {command('report', os.path.relpath(directory))}")
    return 0 if len(finished) == len(runs) else 1
