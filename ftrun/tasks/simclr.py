"""SimCLR: two views of a picture are nearer to each other than to the batch's others (Chen et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError
from ftrun.tasks.base import Batch
from ftrun.tasks.contrastive.base import Contrastive

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.settings.schema import Train


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
        from ftrun.tasks.contrastive.distributed import gathered, place
        from ftrun.tasks.contrastive.losses import ntxent

        own = self.embeddings(outputs).unflatten(0, (-1, 2))
        self.latest = own.detach()
        return ntxent(own, gathered(own), place() * len(own), self.tau_now)

    def figures(self) -> dict[str, float]:
        from ftrun.tasks.contrastive.distributed import in_turns
        from ftrun.tasks.metrics.contrastive import effective_rank, figures

        views = in_turns(self.latest)
        rank = effective_rank(views.flatten(0, 1))
        return {**figures(views[:, 0], views[:, 1]), "effective_rank": rank}
