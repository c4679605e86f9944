"""What SimCLR and MoCo share: images, two views of each, a projection, and their evaluation."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.errors import ConfigError, counted
from ftrun.settings.checks import at_least
from ftrun.settings.habits import Habits
from ftrun.settings.schedules import Length
from ftrun.settings.seeds import stream
from ftrun.tasks.contrastive.collapse import Watch
from ftrun.tasks.contrastive.temperature import Temperature
from ftrun.tasks.contrastive.views import Views
from ftrun.tasks.dataset import SPLITS, Batch, Draw, Example
from ftrun.tasks.metrics import contrastive, knn
from ftrun.tasks.parts.images import ImageRows, ImageTask, Pixels, stacked
from ftrun.tasks.scorer import Answer, Row, Scorer, main_metric

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.models.spec import Spec
    from ftrun.settings.schema import Settings
    from ftrun.tasks.contrastive.objective import Contrast
    from ftrun.tasks.data import TaskData

PER_IMAGE = 100  # images of the kNN reference for each scored image, at most


class Reference(Example):
    """A training image of which only the features are computed."""


class Trained(Example):
    """A training image, which is not its own neighbour when scored."""


@dataclass
class Contrastive(ImageTask):
    """Settings of views, projection, temperature and kNN, which both methods share."""

    habits: ClassVar[Habits] = Habits(steps=1000, epochs=(10, 200), random_steps=2000, batch=64)

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

    folder: ClassVar[str] = "a folder of images, with class folders or without"

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("hidden", "width", "neighbours", "bank_size"):
            at_least(f"task.{setting}", getattr(self, setting), 1)
        self.views = Views(
            self.crop, self.flip, self.jitter, self.jitter_share, self.grey, self.blur, self.blur_sigma
        )
        self.temperature = Temperature(self.schedule_tau, self.tau, self.tau_start, self.tau_warmup)
        Watch(self.on_instability)

    def check(self, settings: Settings) -> None:
        super().check(settings)
        self.seed, self.loop = settings.seed, settings.train

    def load(self, seed: int) -> ImageRows:
        from ftrun.data.images.splits import load_images

        sources = {split: place for split in SPLITS if (place := getattr(self, split)) is not None}
        images, notes, fingerprint = load_images(
            sources, self.image, self.label, self.subset, seed, self.leaks
        )
        rows = ImageRows(images, notes, fingerprint, task=self)
        if (split := unlabelled_split(rows)) is not None:  # the loss chooses the best weights
            notes.append(f"{split}: no labels (task.label={self.label}), so kNN accuracy is not computed")
        else:
            labels = counted(len(labels_in(rows, "train")), "label")
            notes.append(f"train: {labels}, used for kNN accuracy only")
        return rows

    def load_file(self, file: str, answered: bool, spec: Spec) -> ImageRows:
        from ftrun.data.images.splits import images_of

        if not answered:
            raise ConfigError(
                f"task={self.name} learns features and makes no predictions; possible: fine-tune it with"
                " task=image model.name=RUN and predict with that run"
            )
        rows = self.load(self.seed)
        rows.splits["test"], rows.notes = images_of(file, self.image, self.label, "test")
        return rows

    def spec(self, source: Any) -> Spec:
        return self.spec_of(new_head=False, projection=(self.hidden, self.width))

    def encode(self, data: TaskData, split: str) -> Pairs:
        """The images of a split, decoded once to bytes."""
        processor, rows = data.processor, data.rows
        self.views.refuse(processor.channels, processor.size)
        arrays, kept, line = self.decoded(data, split, processor.size)
        kind, images = Trained if split == "train" else Example, rows.splits[split]
        examples = [
            kind(pixels, images[row].label, row, place=images[row].place)
            for pixels, row in zip(arrays, kept, strict=True)
        ]
        rows.notes.append(line)
        return Pairs(examples, line, processor, self)

    def describe(self, data: TaskData) -> dict[str, Any]:
        return {"rows": {split: len(data.dataset(split)) for split in SPLITS}}

    def batch_of(self, images: int) -> int:
        """The images of a batch: train.batch_size, or all where there are fewer."""
        return min(self.loop.batch_size, images)

    def length(self, train: Pairs) -> Length:
        """The length of the run."""
        return Length.of(self.loop, len(train.epoch(self.seed, 0)))

    @abstractmethod
    def objective(self, data: TaskData) -> Contrast: ...

    def scorer(self, data: TaskData) -> ViewScorer:
        return ViewScorer(self, data)


class Pairs(Pixels):
    """Images of which the model sees two views."""

    def __init__(self, examples: Sequence[Example], summary: str, processor: Any, task: Contrastive) -> None:
        super().__init__(list(examples), summary, processor)
        self.task = task

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        pixels = stacked([example.inputs for example in examples])
        return {
            "inputs": {"pixel_values": self.processor.scale(pixels)},
            "labels": [example.target for example in examples],
            "rows": [example.row for example in examples],
            "features": isinstance(examples[0], Reference),
            "draw": draw,
        }

    def epoch(self, seed: int, epoch: int) -> Sequence[int]:
        """Whole batches only; each epoch leaves out other images."""
        count = len(self)
        left = count % self.task.batch_of(count)
        chosen = random.Random(stream(seed, "left out", epoch)).sample(range(count), count - left)
        return sorted(chosen) if left else range(count)

    def reference(self, data: TaskData) -> Pairs | None:
        """Labelled training images at regular intervals, where the examples have labels too."""
        if main_metric(data.scorer) == "loss" or all(example.target is None for example in self.examples):
            return None
        train = data.dataset("train")
        found = [each for each in train.examples if each.target is not None]
        wanted = min(self.task.bank_size, PER_IMAGE * len(self))
        chosen = found[:: -(-len(found) // wanted)]
        kept = [Reference(each.inputs, each.target, each.row) for each in chosen]
        return Pairs(kept, "", self.processor, self.task)


class ViewScorer(Scorer):
    """The label of the nearest training images, and the similarity of the two views."""

    columns = ("answer", "probability")

    def __init__(self, task: Contrastive, data: TaskData) -> None:
        labelled = unlabelled_split(data.rows) is None
        self.metrics = (knn.METRICS if labelled else {}) | contrastive.METRICS
        self.task, self.data = task, data

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        found, width = outputs.detach().float().cpu(), self.task.width
        if batch["features"]:
            return [{"features": row[:-width]} for row in found]
        return [
            {"features": row[0, :-width], "views": row[1:, -width:]} for row in found.unflatten(0, (-1, 3))
        ]

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        votes: Sequence[tuple[Any, Any]] = [(None, None)] * len(examples)
        if reference:
            votes = self.votes(answers, examples, reference)
        return [
            Row(example.row, example.target, {"answer": label, "probability": share}, example, answer)
            for answer, example, (label, share) in zip(answers, examples, votes, strict=True)
        ]

    def votes(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row]
    ) -> list[tuple[Any, Any]]:
        """The label with the most votes of the nearest reference images, and its share."""
        import torch

        features = torch.stack([row.detail["features"] for row in reference])
        bank = knn.Bank(features, [row.label for row in reference], [row.row for row in reference])
        own = torch.stack([answer["features"] for answer in answers])
        places = [each.row if isinstance(each, Trained) else None for each in examples]
        return [*zip(*bank.answers(own, self.task.neighbours, places), strict=True)]

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        """Every metric; the loss is NT-Xent at the final temperature, in batches of the training size."""
        import torch

        labelled = [(row.answer["answer"], row.label) for row in rows if row.label]
        correct = [answer == label for answer, label in labelled if answer is not None]
        known = {"knn_accuracy": sum(correct) / len(correct)} if correct else {}
        views = torch.stack([row.detail["views"] for row in rows])
        batch = self.task.batch_of(len(self.data.dataset("train")))
        return known | contrastive.scores_of(views, batch, self.task.tau)


def labels_in(rows: Any, split: str) -> set[str]:
    return {image.label for image in rows.splits[split] if image.label is not None}


def unlabelled_split(rows: Any) -> str | None:
    """The first of train and validation that has no labels, if any."""
    splits = [split for split in ("train", "validation") if split in rows.splits]
    return next((split for split in splits if not labels_in(rows, split)), None)
