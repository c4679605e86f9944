"""Distillation: a network learns from the answers of a trained one and the labels (Hinton et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.settings.checks import above
from ftrun.strategies.full import Full

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData


@dataclass
class Distil(Full):
    """(1 − alpha) · the task's loss + alpha · T² · KL(teacher ‖ student) at temperature T, on every weight.

    The teacher answers each training row once, without dropout. Of numbers the distance is the squared error.
    """

    teacher: str | None
    alpha: float
    temperature: float

    def __post_init__(self) -> None:
        above("strategy=distil: temperature", self.temperature, 0)
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"strategy=distil: alpha is between 0 and 1, not {self.alpha:g}")

    def check(self, settings: Settings) -> None:
        if settings.task.spec(None).windows:
            raise ConfigError(
                "strategy=distil learns one answer for a row, and task.long=windows learns from each of its"
                " windows; possible: task.long=truncate"
            )
        if not settings.task.spec(None).regression:
            raise ConfigError(
                f"strategy=distil learns one answer for each row, and task={settings.task.name} gives others;"
                " possible: classify, multilabel, regress, digits, and image with task.augment=none"
            )
        if settings.streamed:
            raise ConfigError(
                "strategy=distil holds the teacher's answers to all training rows, which task.stream=true"
                " does not allow"
            )

    def chosen(self, settings: Settings, model: Model) -> tuple[dict[str, Any], str]:
        """Nothing is chosen; ConfigError for a teacher that is none, before the data is read."""
        from ftrun.tasks.parts.teacher import refuse_unfit

        if self.teacher is None:
            raise ConfigError("strategy=distil needs a teacher: teacher=RUN, a finished run on the same task")
        refuse_unfit(Path(self.teacher), settings)
        return {}, ""

    def lesson(self, data: TaskData, model: Model) -> TaskData:
        from ftrun.tasks.parts.teacher import Teacher

        assert self.teacher is not None
        teacher = Teacher(Path(self.teacher), next(model.parameters()).device)
        teacher.refuse_leaks(data)
        return teacher.lesson(data, self.alpha, self.temperature)
