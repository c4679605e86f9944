"""Finding runs: below directories, or a model directory that was made from runs."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.runs.config import from_yaml
from ftrun.runs.run import Run, is_run
from ftrun.settings.checks import natural_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ORIGIN = "ftrun.yaml"  # in a model directory made from runs: the settings of the run whose head serves


class Exported(Run):
    """A model directory made from finished runs: it predicts and can be evaluated, and has no history."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings of the run whose head serves."""
        return from_yaml(self.path / ORIGIN)

    @property
    def environment(self) -> dict[str, Any]:
        """Where the run began in whose directory it lies, if it does: what is relative counts from there."""
        above = self.path.absolute().parent
        return {"directory": Run(above).environment.get("directory")} if is_run(above) else {}

    @property
    def is_edited(self) -> bool:
        return False

    @property
    def finished(self) -> bool:
        return True

    @property
    def model_dir(self) -> Path:
        return self.path


def open_trained(path: str | os.PathLike[str]) -> Run:
    """A run, or a model directory that `ftrun merge` or `ftrun compose` has made from runs."""
    return Exported(path) if (Path(path) / ORIGIN).is_file() else Run.open(path)


def find_runs(directories: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The run directories at or below the given ones, each once, in natural order (2-lora before 10-lora)."""
    found: dict[Path, Path] = {}
    for top in map(Path, directories):
        if not top.is_dir():
            raise ConfigError(f"{top} is not a directory; expected a run, or a directory with runs in it")
        for folder, below, _ in os.walk(top):
            path = Path(folder)
            if is_run(path):
                found.setdefault(path.resolve(), path)
                below.clear()
            else:
                below[:] = sorted((name for name in below if not name.startswith(".")), key=natural_order)
    return list(found.values())


def some_runs(directories: Sequence[str]) -> list[Path]:
    """The same; ConfigError where there is none."""
    if found := find_runs(directories):
        return found
    raise ConfigError(
        f"no runs in {', '.join(directories)}; a run directory has config.yaml and metrics.jsonl"
    )
