"""What tasks on images share: the settings of where the images are and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ftrun.data.leaks import WAYS
from ftrun.data.splits import parse_subset
from ftrun.errors import ConfigError
from ftrun.settings.checks import at_least, one_of


@dataclass
class ImageFiles:
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
    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    unit: ClassVar[str] = "images"
    passed_over: ClassVar[tuple[str, ...]] = ("max_length",)

    def check_files(self) -> None:
        """ConfigError where no images are named or a setting of theirs is out of its range."""
        if self.train is None:
            raise ConfigError(
                f"task.train is not set: give {self.folder}, a zip of it, an npz file or a table of files,"
                " task.train=PLACE"
            )
        at_least("task.size", self.size, 1)
        if self.channels not in (None, 1, 3):
            raise ConfigError(f"task.channels is 1, 3 or null (the network's), not {self.channels}")
        one_of("task.unreadable", self.unreadable, ["drop", "error"])
        one_of("task.leaks", self.leaks, WAYS)
        if self.subset is not None:
            parse_subset(self.subset)
        self.notes: list[str] = []
        self.hash: str

    def fingerprint(self) -> str:
        return self.hash
