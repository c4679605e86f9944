"""Image classification: one picture, one label out of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.balance import WAYS
from ftrun.data.images.transforms import moved, order_of, seeds_of
from ftrun.data.labels import classes_of
from ftrun.errors import ConfigError, DataError
from ftrun.runs.terminal import say
from ftrun.settings.checks import at_least, one_of
from ftrun.settings.seeds import stream
from ftrun.tasks.base import SPLITS, Answer, Batch, Example
from ftrun.tasks.parts.image_files import ImageFiles
from ftrun.tasks.parts.labelled import Labelled

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.data.images.sources import Picture
    from ftrun.data.images.splits import Reading
    from ftrun.models.image_processor import Reader

TOP = 5


class Varied(Example):
    """A training picture that comes out a little different in every step."""


@dataclass
class Image(ImageFiles, Labelled):
    """Pictures of any size in folders, arrays, tables or data sets, as they are or with permuted pixels."""

    labels: Any  # the names of the head's labels, or null for those found
    classes: Any  # the labels in use, or null for all
    modulo: int | None
    balance: str
    augment: str
    permute: Any  # a seed, null for the pixels as they are, or a list of these

    folder: ClassVar[str] = "a folder of class folders"
    metrics: ClassVar[dict[str, str]] = {**Labelled.metrics, "top5_accuracy": "max"}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_files()
        at_least("task.modulo", self.modulo, 2)
        one_of("task.balance", self.balance, WAYS)
        one_of("task.augment", self.augment, ["none", "flip", "crop+flip"])
        self.used = classes_of(self.classes)
        seeds_of(self.permute)
        if self.permute is not None and self.augment != "none":
            raise ConfigError(
                f"task.augment={self.augment} moves neighbouring pixels together, and task.permute="
                f"{self.permute} leaves none; one of them"
            )
        self.pictures: dict[str, list[Picture]] = {}

    def balanced_by(self) -> str:
        return self.balance

    def reading(self) -> Reading:
        from ftrun.data.images.splits import Reading

        return Reading(self.image, self.label, self.used, self.modulo)

    def read(self, seed: int) -> list[str]:
        from ftrun.data.images.splits import load_splits

        sources = {split: getattr(self, split) for split in SPLITS}
        self.pictures, self.names, self.notes, self.hash = load_splits(
            sources, self.reading(), self.labels, self.subset, seed, self.leaks
        )
        if len(self.names.names) <= TOP:
            self.metrics = Labelled.metrics  # type: ignore[misc]
        return self.notes

    def card(self) -> dict[str, Any]:
        from ftrun.data.card import repetitions
        from ftrun.data.images.splits import said_by

        found = super().card() | repetitions(said_by(self.pictures), "images")
        return found | self.weighing() | {"notes": self.notes}

    def encode(self, tokenizer: Reader, split: str) -> str:
        """Decoded once, as bytes; `tokenizer` is the network's Reader."""
        arrays, kept, line = self.decoded(tokenizer, self.pictures[split], split)
        targets = [self.names.index(self.pictures[split][row].label) for row in kept]
        kind = Varied if split == "train" and self.augment != "none" else Example
        self.encoded[split] = [
            kind(inputs, target, len(self.pictures[split]) * number + row)
            for number, seed in enumerate(seeds_of(self.permute))
            for inputs, target, row in zip(permuted(arrays, seed), targets, kept, strict=True)
        ]
        self.notes.append(line)
        return line if self.permute is None else f"{line}; pixels permuted (task.permute={self.permute})"

    def decoded(self, reader: Reader, pictures: list[Picture], split: str) -> tuple[Any, list[int], str]:
        from ftrun.data.images.decoding import decode_all

        self.reader = reader
        return decode_all(pictures, reader, split, self.unreadable)

    def read_test(self, file: str) -> list[str]:
        notes: list[str] = []
        reading = self.reading()
        self.pictures["test"] = reading.labelled("test", file, notes)
        reading.rest(self.pictures["test"])
        for picture in self.pictures["test"]:
            try:
                self.names.index(picture.label)
            except DataError as error:
                raise DataError(f"{file}, {picture.name}: {error}") from None
        return notes

    def input_rows(self, file: str) -> list[dict[str, Any]]:
        from ftrun.data.images.sources import read_pictures

        pictures, _ = read_pictures(file, self.image, self.label)
        self.asked = pictures
        return [picture.about for picture in pictures]

    def questions(self, tokenizer: Reader, rows: list[dict[str, Any]], file: str) -> list[Example]:
        seeds = seeds_of(self.permute)
        if len(seeds) > 1:
            raise ConfigError(
                f"task.permute={self.permute}: this run knows {len(seeds)} permutations, and {file} does not"
                " say which one is meant"
            )
        arrays, kept, line = self.decoded(tokenizer, self.asked, file)
        say(line)
        return [
            Example(inputs, None, row) for inputs, row in zip(permuted(arrays, seeds[0]), kept, strict=True)
        ]

    def collate(self, examples: Sequence[Example]) -> Batch:
        import numpy
        import torch

        pixels = torch.from_numpy(numpy.stack([self.shown(example) for example in examples]))
        inputs = {"pixel_values": self.reader.scale(pixels)}
        return {"inputs": inputs, "labels": [example.target for example in examples]}

    def shown(self, example: Example) -> Any:
        """The picture as this step sees it: a function of seed, step and row, whatever the batch."""
        if self.moment is None or not isinstance(example, Varied):
            return example.inputs
        seed, step = self.moment
        return moved(example.inputs, stream(seed, "augment", step, example.row), self.augment == "crop+flip")

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        """With `top5`, whether the label is among the five likeliest, where known and there are more."""
        found = super().answers(outputs, batch)
        if outputs.shape[-1] > TOP and None not in batch["labels"]:
            best = outputs.detach().float().topk(TOP).indices.tolist()
            for answer, likeliest, label in zip(found, best, batch["labels"], strict=True):
                answer["top5"] = label in likeliest
        return found

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        hits = [answer["top5"] for answer in answers if "top5" in answer]
        top = {"top5_accuracy": sum(hits) / len(hits)} if hits else {}
        return super().score(answers, examples) | top


def permuted(arrays: Any, seed: int | None) -> Any:
    """(images, channels, height, width) with the places of the pixels changed, the same in every channel."""
    if seed is None:
        return arrays
    flat = arrays.reshape(*arrays.shape[:2], -1)
    return flat[:, :, order_of(seed, flat.shape[-1])].reshape(arrays.shape)
