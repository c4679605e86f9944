"""SimCLR: two views of a picture are nearer to each other than to the batch's others (Chen et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError
from ftrun.tasks.base import Batch
from ftrun.tasks.contrastive import Contrastive

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.config import Train


@dataclass
class Simclr(Contrastive):
    """NT-Xent over the batch of all processes; both views go through the network as one batch."""

    joint: ClassVar[bool] = True

    def under(self, seed: int, train: Train) -> None:
        super().under(seed, train)
        if train.batch_size < 2:
            raise ConfigError(
                "train.batch_size=1: a view is told apart from those of the other images of its batch, and"
                " there are none; possible: 256, with train.micro_batch for what fits in memory"
            )

    def shown(self, views: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"pixel_values": views.flatten(0, 1)}

    def training_count(self, batch: Batch) -> float:
        return 2 * len(batch["labels"])

    def training_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        from ftrun.contrast.losses import ntxent
        from ftrun.contrast.processes import gathered, place

        own = self.embeddings(outputs).unflatten(0, (-1, 2))
        self.latest = own.detach()
        return ntxent(own, gathered(own), place() * len(own), self.tau_now)

    def figures(self) -> dict[str, float]:
        from ftrun.contrast.monitor import effective_rank, figures
        from ftrun.contrast.processes import in_turns

        views = in_turns(self.latest)
        rank = effective_rank(views.flatten(0, 1))
        return {**figures(views[:, 0], views[:, 1]), "effective_rank": rank}
