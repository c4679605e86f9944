"""The start of a run: a composition, a sequence of tasks, or one experiment."""

from __future__ import annotations

from pathlib import Path

from ftrun.experiments import sequence, single
from ftrun.experiments.lora import domain
from ftrun.runs.run import Run
from ftrun.settings.schema import Settings


def run(settings: Settings, path: Path) -> float:
    """Do what the settings say in a new run directory; returns the score that chose the best weights."""
    if settings.compose is not None:
        return domain.run(settings, path)
    return single.run(settings, path) if settings.sequence is None else sequence.run(settings, path)


def resume(path: Path) -> float:
    """Continue whatever the directory holds; what is finished of it is not done again."""
    directory = Run.open(path)
    if (directory.config.get("compose") or {"name": "none"})["name"] != "none":
        return domain.resume(directory)
    return sequence.resume(directory) if directory.config.get("sequence") else single.resume(path)
