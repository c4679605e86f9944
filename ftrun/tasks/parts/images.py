"""Pictures without labels, or with labels that only serve to look at what has been learned."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.errors import ConfigError
from ftrun.tasks.base import SPLITS, Example, Task
from ftrun.tasks.parts.image_files import ImageFiles

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from ftrun.data.images.sources import Picture
    from ftrun.models.image_processor import Reader


class Trained(Example):
    """A training picture, scored without itself among its neighbours."""


@dataclass
class Pictures(ImageFiles, Task, ABC):
    """Pictures of any size in three splits. An example's target is the name of its label, or None."""

    folder: ClassVar[str] = "a folder of images, with class folders or without"
    shares_head: ClassVar[bool] = False
    new_head: ClassVar[bool] = False
    pretrains: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_files()
        self.encoded: dict[str, list[Example]] = {}

    def read(self, seed: int) -> list[str]:
        from ftrun.data.images.unlabelled import load_pictures

        self.seed = seed
        sources = {split: place for split in SPLITS if (place := getattr(self, split)) is not None}
        self.pictures, self.notes, self.hash = load_pictures(
            sources, self.image, self.label, self.subset, seed, self.leaks
        )
        return self.notes

    def card(self) -> dict[str, Any]:
        from ftrun.data.card import repetitions
        from ftrun.data.images.splits import said_by

        rows = {split: len(self.examples(split)) for split in SPLITS}
        return {"rows": rows, **repetitions(said_by(self.pictures), "images"), "notes": self.notes}

    def labels_in(self, split: str) -> set[str]:
        return {picture.label for picture in self.pictures[split] if picture.label is not None}

    def head(self) -> dict[str, Any]:
        return {}

    def encode(self, tokenizer: Reader, split: str) -> str:
        """Decoded once, as bytes; `tokenizer` is the network's Reader."""
        from ftrun.data.images.decoding import decode_all

        self.reader = tokenizer
        pictures: list[Picture] = self.pictures[split]
        arrays, kept, line = decode_all(pictures, tokenizer, split, self.unreadable, tokenizer.size)
        kind = Trained if split == "train" else Example
        self.encoded[split] = [
            kind(pixels, pictures[row].label, row) for pixels, row in zip(arrays, kept, strict=True)
        ]
        self.notes.append(line)
        return line

    def examples(self, split: str) -> Sequence[Example]:
        if split not in self.encoded:  # as for a run that is scored again, of which only one is asked for
            self.encode(self.reader, split)
        return self.encoded[split]

    def given(self, example: Example) -> Any:
        return example.target

    def restore(self, config: PretrainedConfig) -> None:
        return

    def read_test(self, file: str) -> list[str]:
        from ftrun.data.images.unlabelled import pictures_of

        self.read(self.seed)
        self.pictures["test"], notes = pictures_of(file, self.image, self.label, "test")
        return notes

    def input_rows(self, file: str) -> list[dict[str, Any]]:
        raise ConfigError(
            f"task={self.name} makes features and answers nothing; possible: task=image model.name=RUN, and"
            " predict with that run"
        )

    def questions(self, tokenizer: Any, rows: list[dict[str, Any]], file: str) -> list[Example]:
        return []
