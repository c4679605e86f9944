"""SimCLR: two views of an image are nearer to each other than to the batch's others (Chen et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError
from ftrun.tasks.contrastive.base import Contrastive

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings
    from ftrun.tasks.contrastive.objective import WithinBatch
    from ftrun.tasks.data import TaskData


@dataclass
class Simclr(Contrastive):
    """A view is compared with those of the other images of its batch."""

    def check(self, settings: Settings) -> None:
        super().check(settings)
        if settings.train.batch_size < 2:
            raise ConfigError(
                "train.batch_size=1: a view is compared with the other images of its batch, and there are"
                " none; possible: 256, with train.micro_batch for what fits in memory"
            )

    def objective(self, data: TaskData) -> WithinBatch:
        from ftrun.tasks.contrastive.objective import WithinBatch

        return WithinBatch(self, data)
