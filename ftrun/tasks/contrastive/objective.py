"""The objectives of SimCLR and MoCo: views, loss and monitoring."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ftrun.data.images.transforms import BRIGHTEST
from ftrun.errors import ConfigError
from ftrun.models.device import onto
from ftrun.runs.terminal import say
from ftrun.settings.seeds import stream
from ftrun.tasks.contrastive.collapse import Watch
from ftrun.tasks.contrastive.distributed import gathered, in_turns, on_shuffled, place
from ftrun.tasks.contrastive.losses import against_queue, ntxent
from ftrun.tasks.contrastive.momentum_encoder import Follower, Queue
from ftrun.tasks.contrastive.views import draw as draw_views
from ftrun.tasks.losses import Loss
from ftrun.tasks.metrics.contrastive import effective_rank, figures
from ftrun.tasks.objective import Coupled, Objective

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.settings.schedules import Length
    from ftrun.tasks.contrastive.temperature import Momentum
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch, Draw


class Contrast(Objective):
    """A loss on two views of each image, which depend on seed, step and row only."""

    def __init__(self, task: Any, data: TaskData, views: int) -> None:
        super().__init__(self.unscored, lambda batch: views * len(batch["labels"]))
        self.task, self.data = task, data
        self.watch = Watch(task.on_instability)
        self.draw: Draw | None = None  # of the current step

    @cached_property
    def run_length(self) -> Length:
        found: Length = self.task.length(self.data.dataset("train"))
        return found

    @property
    def step(self) -> int:
        return 0 if self.draw is None else self.draw.step

    @property
    def tau(self) -> float:
        """The current temperature."""
        found: float = self.task.temperature.at(self.step, self.run_length.total)
        return found

    def setup(self, model: Model, accelerator: Accelerator) -> None:
        """Raises ConfigError where the processes would have unequal shares of a batch."""
        batch, parts = self.task.batch_of(len(self.data.dataset("train"))), accelerator.num_processes
        if batch % parts:
            raise ConfigError(
                f"train.batch_size={batch} is not divisible by the {parts} processes;"
                f" possible: train.batch_size={max(2, batch // parts) * parts}"
            )

    def count(self, batches: Sequence[Batch]) -> float:
        self.draw = batches[0]["draw"]
        return super().count(batches)

    def inputs(self, inputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """In training the views; in evaluation the image itself and two fixed views."""
        pixels = inputs["pixel_values"]
        if batch["features"]:
            return inputs
        if self.training:
            return self.shown(self.two_views(pixels, batch["rows"], *batch["draw"]), batch)
        views = self.two_views(pixels, batch["rows"], 0, 0, 0)
        return {"pixel_values": torch.cat([pixels.unsqueeze(1), views], 1).flatten(0, 1)}

    def two_views(self, pixels: Tensor, rows: Sequence[int], seed: int, epoch: int, step: int) -> Tensor:
        """(images, 2, channels, side, side)."""
        processor = self.data.processor
        draws = onto(draw_views([stream(seed, "augment", step, row) for row in rows], 2), pixels.device)
        twice = processor.unscale(pixels).repeat_interleave(2, 0)
        views = self.task.views.shown(twice, draws.flatten(0, 1)) * BRIGHTEST
        scaled: Tensor = processor.scale(views)
        return scaled.unflatten(0, (-1, 2))

    @abstractmethod
    def shown(self, views: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The inputs of the model in training, from the two views."""

    def embeddings(self, outputs: Tensor) -> Tensor:
        """The embeddings (views, width), which follow the features in the outputs."""
        return outputs[:, -self.task.width :]

    def loss(self, outputs: Tensor, batch: Batch) -> Loss:
        return self.contrasted(outputs, batch) if self.training else super().loss(outputs, batch)

    @staticmethod
    def unscored(outputs: Tensor, batch: Batch) -> Loss:
        """A loss of zero: the scorer computes that of a split, in batches of its own."""
        return Loss(outputs.new_zeros(()))

    @abstractmethod
    def contrasted(self, outputs: Tensor, batch: Batch) -> Loss:
        """The training loss."""

    def after_step(self, grad_norm: float) -> None:
        if self.step < self.run_length.per_epoch:
            self.watch.gradient(grad_norm, self.step, self.tau)

    def figures(self) -> dict[str, float]:
        found = self.distances()
        if self.step >= self.run_length.per_epoch and found:
            rank, others = found["effective_rank"], found["negative_similarity"]
            self.watch.embedding(rank, self.task.width, self.step, others)
        return {"temperature": self.tau, **found}

    @abstractmethod
    def distances(self) -> dict[str, float]:
        """The similarities of pairs and others in the last step; nothing before the first."""


class WithinBatch(Contrast, Coupled):
    """NT-Xent over the batch of all processes; both views go through the network as one batch."""

    def __init__(self, task: Any, data: TaskData) -> None:
        super().__init__(task, data, views=2)
        self.latest = torch.empty(0)

    def shown(self, views: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"pixel_values": views.flatten(0, 1)}

    def contrasted(self, outputs: Tensor, batch: Batch) -> Loss:
        own = self.embeddings(outputs).unflatten(0, (-1, 2))
        self.latest = own.detach()
        return Loss(ntxent(own, gathered(own), place() * len(own), self.tau))

    def distances(self) -> dict[str, float]:
        views = in_turns(self.latest)
        rank = effective_rank(views.flatten(0, 1))
        return {**figures(views[:, 0], views[:, 1]), "effective_rank": rank}


class AgainstQueue(Contrast):
    """InfoNCE against a queue of keys, computed by a momentum encoder."""

    def __init__(self, task: Any, data: TaskData, course: Momentum) -> None:
        super().__init__(task, data, views=task.sides)
        self.course = course
        self.pending: list[tuple[Tensor, ...]] = []  # of the current step
        self.last: list[Tensor] = []  # the same of the last completed step

    def setup(self, model: Model, accelerator: Accelerator) -> None:
        super().setup(model, accelerator)
        self.accelerator = accelerator
        size = min(self.task.queue, len(self.data.dataset("train")))
        if size < self.task.queue:
            reason = f"instead of task.queue={self.task.queue:,}"
            say(f"queue: {size:,} keys, one for each training image, {reason}")
        self.key = Follower(model)
        seed = stream(self.task.seed, "queue")
        self.ring = Queue(size, self.task.width, seed, accelerator.device)
        self.register_buffer("queue", self.ring.keys)
        self.register_buffer("pointer", self.ring.pointer)

    def count(self, batches: Sequence[Batch]) -> float:
        self.pending = []
        return super().count(batches)

    def shown(self, views: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The first views, or with `symmetric` both; the other views are for the key encoder."""
        batch["others"] = views.flip(1)[:, : self.task.sides].flatten(0, 1)
        return {"pixel_values": views[:, : self.task.sides].flatten(0, 1)}

    def contrasted(self, outputs: Tensor, batch: Batch) -> Loss:
        queries = normalize(self.embeddings(outputs).float(), dim=1)
        keys = self.keys_of(batch.pop("others"))
        loss, similar = against_queue(queries, keys, self.ring.keys, self.tau)
        nearest = (similar.argmax(1) == 0).float()
        self.pending.append((queries.detach(), keys, nearest, similar[:, 1:].mean(1)))
        return Loss(loss)

    def keys_of(self, pixels: Tensor) -> Tensor:
        """Keys (images, width), of norm 1 and without gradient.

        Several processes shuffle the images among them: otherwise the batch statistics that a key shares
        with its query would identify it (shuffling BN, section 3.3 of the paper).
        """
        with torch.no_grad(), self.accelerator.autocast():
            outputs = on_shuffled(self.key.outputs, pixels, stream(self.task.seed, "shuffle", self.step))
        return normalize(self.embeddings(outputs).float(), dim=1)

    def after_step(self, grad_norm: float) -> None:
        """Update the key encoder, and replace the oldest keys by those of the step."""
        super().after_step(grad_norm)
        self.last = [
            in_turns(torch.cat(each).unflatten(0, (-1, self.task.sides))).flatten(0, 1)
            for each in zip(*self.pending, strict=True)
        ]
        self.key.follow(self.course.at(self.step, self.run_length.total))
        self.ring.push(self.last[1])

    def distances(self) -> dict[str, float]:
        """Others are the keys of the queue; nothing before the first completed step, which fp16 may delay."""
        if not self.last:
            return {}
        queries, keys, nearest, others = self.last
        return {
            **figures(queries, keys),
            "negative_similarity": float(others.mean()),
            "contrastive_accuracy": float(nearest.mean()),
            "effective_rank": effective_rank(queries),
        }
