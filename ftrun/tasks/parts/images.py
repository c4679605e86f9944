"""What tasks on images share: where the images are, what becomes of them, and their pixels in batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.folds import PLAIN
from ftrun.data.leaks import WAYS
from ftrun.data.splits import parse_subset
from ftrun.errors import ConfigError
from ftrun.models.spec import ImageInput, Spec
from ftrun.settings.checks import at_least, one_of
from ftrun.tasks.base import Task
from ftrun.tasks.dataset import Batch, Dataset, Draw, Epochs, Example
from ftrun.tasks.parts.rows import TaskRows

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.data.leaks import SplitTexts
    from ftrun.tasks.data import TaskData

IMAGES = "AutoModelForImageClassification"


@dataclass
class ImageRows(TaskRows):
    """Images of three splits, and the notes of decoding them."""

    labels: Any = None  # the label names found

    def contents(self) -> SplitTexts:
        from ftrun.data.images.splits import split_texts

        return split_texts(self.splits)

    def card(self, data: TaskData) -> dict[str, Any]:
        from ftrun.data.card import repetitions
        from ftrun.data.images.splits import columns, split_texts

        how, about = self.task.how, columns(self.splits)
        again = repetitions(split_texts(self.splits), "images", how.leaks(about, "images"))
        return {
            **self.task.describe(data),
            **again,
            **how.card(about),
            **self.task.describe_weights(data),
            "notes": self.notes,
        }


@dataclass
class ImageTask(Task):
    """Images of any size in folders, arrays, tables or data sets, in three splits."""

    name: str
    train: str | list[str] | None
    validation: str | list[str] | None
    test: str | list[str] | None
    image: str | None
    label: str
    subset: Any  # null, a number of training images, or "k per class"
    size: int | None
    channels: int | None
    unreadable: str
    leaks: str

    folder: ClassVar[str]  # what a folder of images is here, for a message
    ignored_settings: ClassVar[tuple[str, ...]] = ("max_length",)

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError(
                f"task.train is not set; it takes {self.folder}, a zip of it, an npz file or a table of"
                " files, task.train=PLACE"
            )
        at_least("task.size", self.size, 1)
        if self.channels not in (None, 1, 3):
            raise ConfigError(f"task.channels is 1, 3 or null (the network's), not {self.channels}")
        one_of("task.unreadable", self.unreadable, ["drop", "error"])
        one_of("task.leaks", self.leaks, WAYS)
        if self.subset is not None:
            parse_subset(self.subset)
        self.how = PLAIN

    @abstractmethod
    def describe(self, data: TaskData) -> dict[str, Any]:
        """What the data card says of rows and labels."""

    def describe_weights(self, data: TaskData) -> dict[str, Any]:
        """What the data card says of class weights."""
        return {}

    def spec_of(self, **more: Any) -> Spec:
        """The spec of a network for images of the size and channels that are set."""
        return Spec(self.name, IMAGES, ImageInput(self.size, self.channels), **more)

    def decoded(self, data: TaskData, split: str, least: int = 1) -> tuple[Any, list[int], str]:
        """The images of a split as bytes, which of them can be read, and a line about them."""
        from ftrun.data.images.decoding import decode_all

        rows = data.rows
        images = rows.splits[split]
        return decode_all(images, data.processor, rows.source or split, self.unreadable, least)


class Pixels(Dataset):
    """Images as bytes, scaled as the network's image processor does."""

    def __init__(
        self, examples: list[Example], summary: str, processor: Any, epochs: Epochs | None = None
    ) -> None:
        super().__init__(examples, summary, epochs)
        self.processor = processor

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        from ftrun.data.batching import labels_tensor

        arrays = [self.seen(example, draw) for example in examples]
        inputs = {"pixel_values": self.processor.scale(stacked(arrays))}
        return {"inputs": inputs, "labels": labels_tensor([example.target for example in examples])}

    def seen(self, example: Example, draw: Draw | None) -> Any:
        """The image as a step sees it."""
        return example.inputs


def stacked(arrays: Sequence[Any]) -> Tensor:
    """(images, channels, height, width)."""
    import numpy
    import torch

    return torch.from_numpy(numpy.stack(arrays))


def given_splits(task: ImageTask) -> dict[str, Any]:
    """What each split's setting says."""
    return {"train": task.train, "validation": task.validation, "test": task.test}
