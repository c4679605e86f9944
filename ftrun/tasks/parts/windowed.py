"""What tasks share whose texts are read in windows, of which several may belong to one row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.leaks import WAYS, leak_notes, of_texts
from ftrun.errors import ConfigError, DataError
from ftrun.settings.checks import at_least, one_of
from ftrun.tasks.base import SPLITS, Example, Task

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # label of what is not learned


@dataclass
class Windowed(Task):
    """Splits of rows that are no table, windows of `max_length` tokens that share `stride` of them."""

    name: str
    train: str | list[str] | None
    validation: str | list[str] | None
    test: str | list[str] | None
    max_length: int
    stride: int
    subset: Any
    leaks: str

    answer_columns: ClassVar[tuple[str, ...]] = ("answer", "probability")
    reads: ClassVar[str]  # what task.train may be
    unit: ClassVar[str]  # what a row is called, in the plural
    part: ClassVar[str]  # what a text of `text_of` is called

    def __post_init__(self) -> None:
        from ftrun.data.grouped_splits import refuse_classes

        if self.train is None:
            raise ConfigError(f"task.train is not set: give {self.reads}, task.train=FILE")
        at_least("task.stride", self.stride, 0)
        one_of("task.leaks", self.leaks, WAYS)
        refuse_classes(self.subset)
        self.rows: dict[str, list[Any]] = {}
        self.encoded: dict[str, list[Example]] = {}
        self.notes: list[str] = []

    @abstractmethod
    def usable(self, split: str, source: str, notes: list[str]) -> list[Any]:
        """The rows of a source that can be learned or scored; DataError where there is none."""

    @abstractmethod
    def text_of(self, row: Any) -> str:
        """What rows have in common that must not be torn apart, and that another split should not have."""

    def read(self, seed: int) -> list[str]:
        from ftrun.data.grouped_splits import complete
        from ftrun.data.sources import sources_of

        notes: list[str] = []
        sources = {"train": self.train, "validation": self.validation, "test": self.test}
        self.rows = {
            split: [row for one in sources_of(given) for row in self.usable(split, one, notes)]
            for split, given in sources.items()
            if given is not None
        }
        notes += complete(self.rows, self.subset, seed, self.text_of, self.unit, self.leaks == "drop")
        self.notes = notes + leak_notes(of_texts(self.parts()), self.leaks, self.part)
        return self.notes

    def parts(self) -> dict[str, list[str]]:
        """What the splits must not share, each text as often as it counts."""
        return {split: [self.text_of(row) for row in self.rows[split]] for split in SPLITS}

    def kept(self, split: str, source: str, found: list[Any], full: list[Any], notes: list[str]) -> list[Any]:
        """The rows with something to read; how many have nothing is said, DataError where all have not."""
        if len(full) < len(found):
            notes.append(f"{split}: {len(found) - len(full)} of {len(found)} {self.unit} dropped, empty")
        if not full:
            raise DataError(f"task.{split}={source}: all of the {len(found)} {self.unit} are empty")
        return full

    def read_test(self, file: str) -> list[str]:
        from ftrun.data.sources import sources_of

        notes: list[str] = []
        self.rows = {"test": [row for one in sources_of(file) for row in self.usable("test", one, notes)]}
        return notes

    def refuse_short(self, needed: int, why: str) -> None:
        """ConfigError where a window has no room for a token of its own."""
        if self.max_length < needed:
            raise ConfigError(f"task.max_length={self.max_length} is at least {needed}: {why}")

    def examples(self, split: str) -> Sequence[Example]:
        return self.encoded[split]

    def card(self) -> dict[str, Any]:
        """Rows, what they repeat, and their windows."""
        from ftrun.data.card import repetitions, spread

        return {
            "rows": {split: len(self.rows[split]) for split in SPLITS},
            "windows": {split: spread([each.size for each in self.encoded[split]]) for split in SPLITS},
            **repetitions(of_texts(self.parts()), self.part),
            "notes": self.notes,
        }


def labelled(names: Sequence[str]) -> dict[str, Any]:
    """What a network's configuration says of a head with these outputs."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in fp32 over the last dimension of the logits, summed over the labels not ignored."""
    import torch

    flat, targets = logits.float().flatten(0, -2), labels.to(logits.device).flatten()
    return torch.nn.functional.cross_entropy(flat, targets, ignore_index=IGNORED, reduction="sum")
