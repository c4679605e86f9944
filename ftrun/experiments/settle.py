"""Settings at `auto` become numbers once the rows and the network are known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ftrun.runs.terminal import leads, say
from ftrun.settings.auto import Case, settle

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData


def settled(settings: Settings, data: TaskData, model: Model, directory: Run) -> Settings:
    """The settings with numbers in the place of `auto`, said with their reasons and kept in config.yaml."""
    if not settings.auto:
        return settings
    case = Case(
        rows=len(data.dataset("train").epoch(settings.seed, 0)),
        validation=len(data.dataset("validation")),
        width=model.width,
        pretrained=model.source is not None,
        strategy=settings.strategy_name,
        pace=settings.strategy.pace,
        habits=settings.task.habits,
    )
    found, lines = settle(settings.train, settings.auto, case)
    if lines:
        say(f"auto: {'; '.join(lines)}")
    if leads():
        directory.settle(found)
    raw = settings.raw | {"train": settings.raw["train"] | found}
    return replace(settings, train=replace(settings.train, **found), raw=raw, auto=frozenset())
