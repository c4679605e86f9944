"""Image classification: one image, one label of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.balance import WAYS
from ftrun.data.folds import Splitting
from ftrun.data.images.transforms import moved, order_of, seeds_of
from ftrun.data.labels import Labels, classes_of
from ftrun.data.slices import by_columns
from ftrun.data.sources import spelled
from ftrun.data.tables import Columns
from ftrun.errors import ConfigError, DataError
from ftrun.runs.terminal import say
from ftrun.settings.checks import at_least, one_of
from ftrun.settings.habits import Habits
from ftrun.settings.seeds import stream
from ftrun.tasks.dataset import Draw, Example
from ftrun.tasks.metrics.classification import SINGLE_LABEL, TOP5
from ftrun.tasks.parts import labelled
from ftrun.tasks.parts.images import ImageRows, ImageTask, Pixels, given_splits

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.data.images.splits import ImageSelection
    from ftrun.models.spec import Spec
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch
    from ftrun.tasks.objective import Objective
    from ftrun.tasks.scorer import Answer, Row

TOP = 5


@dataclass
class Image(ImageTask):
    """Images of any size in folders, arrays, tables or data sets, as they are or with permuted pixels."""

    habits: ClassVar[Habits] = Habits(steps=500, random_steps=3000)

    labels: list[Any] | None  # the names of the head's labels, or null for those found
    classes: Any  # the labels in use, or null for all
    modulo: int | None
    balance: str
    augment: str
    permute: Any  # a seed, null for the pixels as they are, or a list of these
    folds: int | None
    fold: int | None
    split_seed: int
    group: str | None
    slices: Columns  # columns of the test rows by whose values they are also scored

    folder: ClassVar[str] = "a folder of class folders"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("task.modulo", self.modulo, 2)
        one_of("task.balance", self.balance, WAYS)
        one_of("task.augment", self.augment, ["none", "flip", "crop+flip"])
        classes_of(self.classes)
        seeds_of(self.permute)
        self.how = Splitting(self.folds, self.fold, self.split_seed, self.group)
        self.how.sources(given_splits(self))
        if self.permute is not None and self.augment != "none":
            raise ConfigError(
                f"task.augment={self.augment} needs the order of the pixels, which"
                f" task.permute={self.permute} changes; set only one of them"
            )

    def reading(self) -> ImageSelection:
        from ftrun.data.images.splits import ImageSelection

        return ImageSelection(self.image, self.label, classes_of(self.classes), self.modulo)

    def load(self, seed: int) -> ImageRows:
        from ftrun.data.images.splits import load_splits

        images, names, notes, fingerprint = load_splits(
            given_splits(self), self.reading(), self.labels, self.subset, seed, self.leaks, self.how
        )
        about = {split: [image.about for image in part] for split, part in images.items()}
        slices = by_columns(self.slices, about, spelled(self.test or self.train or ""), self.folds)
        return ImageRows(images, notes, fingerprint, task=self, labels=names, slices=slices)

    def load_file(self, file: str, answered: bool, spec: Spec) -> ImageRows:
        if not answered:
            return self.load_unanswered(file)
        notes: list[str] = []
        reading = self.reading()
        found = reading.labelled("test", file, notes)
        reading.rest(found)
        names = Labels(list(spec.labels or ()), [])
        for image in found:
            try:
                names.index(image.label)
            except DataError as error:
                raise DataError(f"{file}, {image.name}: {error}") from None
        return ImageRows({"test": found}, notes, task=self, labels=names)

    def load_unanswered(self, file: str) -> ImageRows:
        from ftrun.data.images.sources import read_images

        if len(seeds_of(self.permute)) > 1:
            raise ConfigError(
                f"task.permute={self.permute}: this run has {len(seeds_of(self.permute))} permutations,"
                f" and {file} does not specify which one to use"
            )
        images, _ = read_images(file, self.image, self.label)
        inputs = [image.row for image in images]
        return ImageRows({"test": images}, inputs=inputs, task=self, answered=False, source=file)

    def spec(self, source: Any) -> Spec:
        if isinstance(source, ImageRows):
            names = tuple(source.labels.names)
        else:
            names = () if source is None else labelled.names_in(source)
        fixed = self.augment == "none"
        return self.spec_of(config=labelled.head_of(names), labels=names, regression=fixed)

    def encode(self, data: TaskData, split: str) -> Pixels:
        """Decoded once, as bytes."""
        rows = data.rows
        arrays, kept, line = self.decoded(data, split)
        images, names = rows.splits[split], Labels(list(data.spec.labels or ()), [])
        targets = [names.index(images[row].label) if rows.answered else None for row in kept]
        examples = [
            Example(inputs, target, len(images) * number + row, place=images[row].place)
            for number, seed in enumerate(seeds_of(self.permute))
            for inputs, target, row in zip(permuted(arrays, seed), targets, kept, strict=True)
        ]
        rows.notes.append(line)
        if not rows.answered:
            say(line)
        summary = line if self.permute is None else f"{line}; pixels permuted (task.permute={self.permute})"
        if split != "train":
            return Pixels(examples, summary, data.processor)
        sampled = self.balance == "sample"
        epochs = labelled.balanced_epochs([each.target for each in examples]) if sampled else None
        kind = Pixels if self.augment == "none" else Augmented
        found = kind(examples, summary, data.processor, epochs)
        if isinstance(found, Augmented):
            found.crop = self.augment == "crop+flip"
        return found

    def describe(self, data: TaskData) -> dict[str, Any]:
        return labelled.examples_card(data)

    def describe_weights(self, data: TaskData) -> dict[str, Any]:
        return labelled.named_weights(data) if self.balance == "weights" else {}

    def objective(self, data: TaskData) -> Objective:
        return labelled.class_objective(data, self.balance == "weights")

    def scorer(self, data: TaskData) -> ImageScorer:
        return ImageScorer(data.spec.labels or ())


class Augmented(Pixels):
    """Training images, randomly shifted or mirrored in every step and unchanged in an evaluation."""

    crop = False

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        return super().collate(examples, draw) | {"draw": draw}

    def seen(self, example: Example, draw: Draw | None) -> Any:
        """A function of seed, step and row, whatever the batch."""
        if draw is None:
            return example.inputs
        return moved(example.inputs, stream(draw.seed, "augment", draw.step, example.row), self.crop)


class ImageScorer(labelled.ClassScorer):
    """The likeliest label and, with more than five labels, the top-5 accuracy."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        if len(self.names) > TOP or not self.names:
            self.metrics = SINGLE_LABEL | TOP5

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        found = super().answers(outputs, batch)
        if outputs.shape[-1] > TOP and batch["labels"] is not None:
            best = outputs.detach().float().topk(TOP).indices.tolist()
            for answer, likeliest, label in zip(found, best, batch["labels"].tolist(), strict=True):
                answer["top5"] = label in likeliest
        return found

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        hits = [row.detail["top5"] for row in rows if "top5" in row.detail]
        top = {"top5_accuracy": sum(hits) / len(hits)} if hits else {}
        return super().score(rows) | top


def permuted(arrays: Any, seed: int | None) -> Any:
    """(images, channels, height, width) with the places of the pixels changed, the same in every channel."""
    if seed is None:
        return arrays
    flat = arrays.reshape(*arrays.shape[:2], -1)
    return flat[:, :, order_of(seed, flat.shape[-1])].reshape(arrays.shape)
