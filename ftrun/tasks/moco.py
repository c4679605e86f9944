"""MoCo: a view is nearer to its picture's other one than to the keys of earlier batches (He et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.runs.terminal import say
from ftrun.settings.checks import at_least
from ftrun.settings.seeds import stream
from ftrun.tasks.base import Batch
from ftrun.tasks.contrastive.base import Contrastive
from ftrun.tasks.contrastive.temperature import Momentum

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from ftrun.models.model import Model
    from ftrun.settings.schema import Train


@dataclass
class Moco(Contrastive):
    """InfoNCE against a queue of keys, made by a network that follows the trained one slowly."""

    queue: int
    momentum: float
    schedule_momentum: str
    symmetric: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("task.queue", self.queue, 1)
        self.course = Momentum(self.schedule_momentum, self.momentum)
        self.pending: list[tuple[Tensor, ...]] = []  # of the step that is being taken, see `training_loss`
        self.last: list[Tensor] = []  # the same of the last step that was taken
        self.follower: Any = None
        self.ring: Any = None

    def under(self, seed: int, train: Train) -> None:
        super().under(seed, train)
        made = train.batch_size * self.sides
        if self.queue < made:
            raise ConfigError(
                f"task.queue={self.queue} holds fewer keys than a step makes, {made}"
                f" (train.batch_size={train.batch_size}); possible: {made} and more"
            )

    @property
    def sides(self) -> int:
        return 2 if self.symmetric else 1

    def meet(self, model: Model, accelerator: Accelerator) -> None:
        from ftrun.tasks.contrastive.momentum_encoder import Follower, Queue

        super().meet(model, accelerator)
        self.accelerator = accelerator
        images = len(self.examples("train"))
        size = min(self.queue, images)
        if size < self.queue:
            say(f"queue: {size:,} keys, one for each training image, instead of task.queue={self.queue:,}")
        self.follower = Follower(model)
        self.ring = Queue(size, self.width, stream(self.seed, "queue"), accelerator.device)

    def tensors(self) -> dict[str, Tensor]:
        """Queue, pointer, the weights and the running statistics of the key encoder."""
        if self.follower is None:
            return {}
        own = {"queue": self.ring.keys, "pointer": self.ring.pointer}
        return own | {f"key/{name}": value for name, value in self.follower.state().items()}

    def at(self, seed: int, step: int) -> None:
        super().at(seed, step)
        self.pending = []

    def shown(self, views: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The first views, or with `symmetric` both; the other ones are for the key encoder."""
        batch["others"] = views.flip(1)[:, : self.sides].flatten(0, 1)
        return {"pixel_values": views[:, : self.sides].flatten(0, 1)}

    def training_count(self, batch: Batch) -> float:
        return self.sides * len(batch["labels"])

    def training_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        from torch.nn.functional import normalize

        from ftrun.tasks.contrastive.losses import against_queue

        queries = normalize(self.embeddings(outputs).float(), dim=1)
        keys = self.keys_of(batch.pop("others"))
        loss, similar = against_queue(queries, keys, self.ring.keys, self.tau_now)
        nearest = (similar.argmax(1) == 0).float()
        self.pending.append((queries.detach(), keys, nearest, similar[:, 1:].mean(1)))
        return loss

    def keys_of(self, pixels: Tensor) -> Tensor:
        """Keys (pictures, width), of length 1 and without gradient.

        Among several processes the pictures are dealt out anew for it: keys that were normalised by the batch
        statistics of their queries would be told from others by these (section 3.3 of the paper).
        """
        import torch
        from torch.nn.functional import normalize

        from ftrun.tasks.contrastive.distributed import dealt

        with torch.no_grad(), self.accelerator.autocast():
            outputs = dealt(self.follower.outputs, pixels, stream(self.seed, "shuffle", self.step))
        return normalize(self.embeddings(outputs).float(), dim=1)

    def stepped(self, norm: float) -> None:
        """The key encoder follows; the step's keys take the place of the oldest."""
        import torch

        from ftrun.tasks.contrastive.distributed import in_turns

        super().stepped(norm)
        self.last = [
            in_turns(torch.cat(each).unflatten(0, (-1, self.sides))).flatten(0, 1)
            for each in zip(*self.pending, strict=True)
        ]
        self.follower.follow(self.course.at(self.step, self.length.total))
        self.ring.push(self.last[1])

    def figures(self) -> dict[str, float]:
        """Others are here the keys of the queue; nothing while no step was taken, as with fp16 at first."""
        from ftrun.tasks.metrics.contrastive import effective_rank, figures

        if not self.last:
            return {}
        queries, keys, nearest, others = self.last
        return {
            **figures(queries, keys),
            "negative_similarity": float(others.mean()),
            "contrastive_accuracy": float(nearest.mean()),
            "effective_rank": effective_rank(queries),
        }
