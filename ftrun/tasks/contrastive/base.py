"""What SimCLR and MoCo share: pictures, two views of each, a projection, and how well it goes."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from ftrun.data.images.transforms import BRIGHTEST
from ftrun.errors import ConfigError
from ftrun.settings.checks import at_least
from ftrun.settings.seeds import stream
from ftrun.tasks.base import Answer, Batch, Example
from ftrun.tasks.contrastive.collapse import Watch
from ftrun.tasks.contrastive.temperature import Temperature
from ftrun.tasks.contrastive.views import Views
from ftrun.tasks.parts.images import Pictures, Trained
from ftrun.training.state import Length

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from ftrun.models.image_processor import Reader
    from ftrun.models.model import Model
    from ftrun.settings.schema import Train
    from ftrun.tasks.metrics.knn import Bank

PER_PICTURE = 100  # of the bank at most: few pictures to be scored need few to compare with
SCORED = {
    "loss": "min", "contrastive_accuracy": "max", "positive_similarity": "max", "negative_similarity": "min",
    "alignment": "min", "uniformity": "min", "effective_rank": "max",
}  # fmt: skip


class Kept(Example):
    """A training picture of the bank, of which only the features count."""


@dataclass
class Contrastive(Pictures):
    """Settings of views, projection, temperature and kNN; what the two methods differ in is theirs."""

    crop: list[float] | None
    flip: float
    jitter: list[float]
    jitter_share: float
    grey: float
    blur: float
    blur_sigma: list[float]
    hidden: int | None
    width: int
    tau: float
    schedule_tau: str
    tau_start: float
    tau_warmup: float
    on_instability: str
    neighbours: int
    bank_size: int

    metrics: ClassVar[dict[str, str]] = {"knn_accuracy": "max", **SCORED}
    default_metric: ClassVar[str] = "knn_accuracy"
    answer_columns: ClassVar[tuple[str, ...]] = ("answer", "probability")

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("hidden", "width", "neighbours", "bank_size"):
            at_least(f"task.{setting}", getattr(self, setting), 1)
        self.views = Views(
            self.crop, self.flip, self.jitter, self.jitter_share, self.grey, self.blur, self.blur_sigma
        )
        self.temperature = Temperature(self.schedule_tau, self.tau, self.tau_start, self.tau_warmup)
        self.watch = Watch(self.on_instability)
        self.known: Bank | None = None

    def under(self, seed: int, train: Train) -> None:
        self.seed, self.loop = seed, train

    def read(self, seed: int) -> list[str]:
        super().read(seed)
        lacking = [split for split in ("train", "validation") if not self.labels_in(split)]
        if lacking:  # the loss chooses the best weights
            self.metrics, self.default_metric = SCORED, "loss"  # type: ignore[misc]
            said = f"{lacking[0]}: no labels (task.label={self.label}), so there is no kNN accuracy"
        else:
            said = f"train: {len(self.labels_in('train'))} labels, for the kNN accuracy alone"
        self.notes.append(said)
        return self.notes

    def dress(self, net: nn.Module, checkpoint: str | None) -> set[str]:
        from ftrun.models.heads import project

        return project(net, self.hidden, self.width, checkpoint)

    def encode(self, tokenizer: Reader, split: str) -> str:
        self.views.refuse(tokenizer.channels, tokenizer.size)
        return super().encode(tokenizer, split)

    def meet(self, model: Model, accelerator: Accelerator) -> None:
        """ConfigError where the processes would have unequal shares of a batch."""
        batch, parts = self.batch(), accelerator.num_processes
        if batch % parts:
            raise ConfigError(
                f"train.batch_size={batch} in {parts} processes: each needs as many images as the others;"
                f" possible: train.batch_size={max(2, batch // parts) * parts}"
            )

    def batch(self) -> int:
        """Images of a batch: as set, or all where there are fewer."""
        return min(self.loop.batch_size, len(self.examples("train")))

    def epoch_rows(self, seed: int, epoch: int) -> Sequence[int]:
        """What is too little for a whole batch is left out, other images in each epoch."""
        count = len(self.examples("train"))
        left = count % self.batch()
        chosen = random.Random(stream(seed, "left out", epoch)).sample(range(count), count - left)
        return sorted(chosen) if left else range(count)

    def collate(self, examples: Sequence[Example]) -> Batch:
        import numpy
        import torch

        pixels = torch.from_numpy(numpy.stack([example.inputs for example in examples]))
        return {
            "inputs": {"pixel_values": self.reader.scale(pixels)},
            "labels": [example.target for example in examples],
            "rows": [example.row for example in examples],
            "bank": isinstance(examples[0], Kept),
        }

    def seen(self, inputs: dict[str, Tensor], batch: Batch, training: bool) -> dict[str, Tensor]:
        """In training the views; in evaluation the picture itself and two views that are always the same."""
        import torch

        pixels = inputs["pixel_values"]
        if batch["bank"]:
            return inputs
        if training:
            return self.shown(self.two_views(pixels, batch["rows"], self.moment), batch)
        views = self.two_views(pixels, batch["rows"], (0, 0))
        return {"pixel_values": torch.cat([pixels.unsqueeze(1), views], 1).flatten(0, 1)}

    def two_views(self, pixels: Tensor, rows: Sequence[int], moment: tuple[int, int] | None) -> Tensor:
        """(pictures, 2, channels, side, side): a function of seed, step and row, whatever the batch."""
        from ftrun.tasks.contrastive.views import draw

        assert moment is not None
        seed, step = moment
        draws = draw([stream(seed, "augment", step, row) for row in rows], 2).to(pixels.device)
        twice = self.reader.unscale(pixels).repeat_interleave(2, 0)
        views = self.views.shown(twice, draws.flatten(0, 1)) * BRIGHTEST
        return self.reader.scale(views).unflatten(0, (-1, 2))

    @abstractmethod
    def shown(self, views: Tensor, batch: Batch) -> dict[str, Tensor]:
        """What the network is shown of the two views in training."""

    def embeddings(self, outputs: Tensor) -> Tensor:
        """(views, width), behind the features of a network's output."""
        return outputs[:, -self.width :]

    @property
    def step(self) -> int:
        return self.moment[1] if self.moment is not None else 0

    @cached_property
    def length(self) -> Length:
        return Length.of(self.loop, len(self.epoch_rows(self.seed, 0)))

    @property
    def tau_now(self) -> float:
        return self.temperature.at(self.step, self.length.total)

    def stepped(self, norm: float) -> None:
        if self.step < self.length.per_epoch:
            self.watch.gradient(norm, self.step, self.tau_now)

    def watched(self) -> dict[str, float]:
        found = self.figures()
        if self.step >= self.length.per_epoch and found:
            rank, others = found["effective_rank"], found["negative_similarity"]
            self.watch.embedding(rank, self.width, self.step, others)
        return {"temperature": self.tau_now, **found}

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """How near pairs and others were in the last step; nothing before the first."""

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Nothing yet: the loss of a split is of batches of its own, see `score`."""
        return outputs.new_zeros(()), len(batch["labels"])

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        found = outputs.detach().float().cpu()
        if batch["bank"]:
            return [{"features": row[: -self.width]} for row in found]
        return [
            {"features": row[0, : -self.width], "views": row[1:, -self.width :]}
            for row in found.unflatten(0, (-1, 3))
        ]

    def bank(self, examples: Sequence[Example]) -> Sequence[Example]:
        """Labelled training pictures at equal distances, where the examples have labels too."""
        self.known = None
        if self.default_metric == "loss" or all(example.target is None for example in examples):
            return ()
        found = [each for each in self.examples("train") if each.target is not None]
        wanted = min(self.bank_size, PER_PICTURE * len(examples))
        return [Kept(each.inputs, each.target, each.row) for each in found[:: -(-len(found) // wanted)]]

    def recall(self, answered: list[tuple[Example, Answer]]) -> None:
        import torch

        from ftrun.tasks.metrics.knn import Bank

        features = torch.stack([answer["features"] for _, answer in answered])
        self.known = Bank(features, [each.target for each, _ in answered], [each.row for each, _ in answered])

    def merged(
        self, answers: Sequence[Answer], examples: Sequence[Example]
    ) -> tuple[Sequence[Answer], Sequence[Example]]:
        """With the label that the nearest of the bank vote for, and its share of the votes."""
        if self.known is None or isinstance(examples[0], Kept):
            return [answer | {"answer": None, "probability": None} for answer in answers], examples
        import torch

        features = torch.stack([answer["features"] for answer in answers])
        rows = [each.row if isinstance(each, Trained) else None for each in examples]
        said = zip(answers, *self.known.answers(features, self.neighbours, rows), strict=True)
        return [a | {"answer": label, "probability": share} for a, label, share in said], examples

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        """The loss is NT-Xent at the final temperature, in batches like those of training."""
        import torch

        from ftrun.tasks.metrics.contrastive import scores_of

        labelled = [(a["answer"], e.target) for a, e in zip(answers, examples, strict=True) if e.target]
        right = [answer == label for answer, label in labelled if answer is not None]
        known = {"knn_accuracy": sum(right) / len(right)} if right else {}
        return known | scores_of(torch.stack([each["views"] for each in answers]), self.batch(), self.tau)
