"""MoCo: a view is nearer to its image's other one than to the keys of earlier batches (He et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError
from ftrun.settings.checks import at_least
from ftrun.tasks.contrastive.base import Contrastive
from ftrun.tasks.contrastive.temperature import Momentum

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings
    from ftrun.tasks.contrastive.objective import AgainstQueue
    from ftrun.tasks.data import TaskData


@dataclass
class Moco(Contrastive):
    """Settings of MoCo, which compares a view with a queue of keys."""

    queue: int
    momentum: float
    schedule_momentum: str
    symmetric: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("task.queue", self.queue, 1)
        self.course = Momentum(self.schedule_momentum, self.momentum)

    def check(self, settings: Settings) -> None:
        super().check(settings)
        made = settings.train.batch_size * self.sides
        if self.queue < made:
            raise ConfigError(
                f"task.queue={self.queue} is smaller than the number of keys of a step, {made}"
                f" (train.batch_size={settings.train.batch_size}); possible: {made} and more"
            )

    @property
    def sides(self) -> int:
        return 2 if self.symmetric else 1

    def objective(self, data: TaskData) -> AgainstQueue:
        from ftrun.tasks.contrastive.objective import AgainstQueue

        return AgainstQueue(self, data, self.course)
