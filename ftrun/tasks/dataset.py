"""Rows of three splits, and encoded examples in batches."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.data.sources import Place, Placed

Batch = dict[str, Any]
Epochs = Callable[[int, int], Sequence[int]]  # seed and epoch → places of examples
SPLITS = ("train", "validation", "test")
CHUNK = 256  # examples that are collated together for their labels


class Draw(NamedTuple):
    """The position of a training batch, on which its random numbers may depend."""

    seed: int
    epoch: int
    step: int  # optimizer steps, counted from 0


@dataclass
class Example:
    """One encoded example: inputs, target, the row of its split, and where a person finds that."""

    inputs: Any  # a list of token ids, or an array of pixels
    target: Any
    row: int
    place: Place | None = field(default=None, kw_only=True)  # None of a piece of running text
    whole: int | None = field(default=None, kw_only=True)  # tokens of its row, where that has several windows

    @property
    def size(self) -> int:
        """Tokens; an image counts as one."""
        return len(self.inputs) if isinstance(self.inputs, list) else 1

    @property
    def windows(self) -> Sequence[Example]:
        """The examples that the network reads for it: itself, or the windows of a long text."""
        return (self,)


class MadeExamples(Sequence[Example]):
    """Examples of which each is made when it is looked at."""

    @property
    @abstractmethod
    def sizes(self) -> Sequence[int]:
        """The tokens of each."""

    def label_counts(self) -> Counter[str] | None:
        """How often each label occurs, where the rows are too many to be held."""
        return None


@dataclass
class Rows:
    """The rows that a task has read, before they are encoded for a model."""

    splits: dict[str, Any] = field(default_factory=dict)  # the rows of each split
    notes: list[str] = field(default_factory=list)  # messages about the preparation of the rows
    fingerprint: str = ""  # a hash of all rows, to detect changed data in a resumed run
    inputs: list[Placed] = field(default_factory=list)  # rows to be answered, as `predict` writes them again

    def card(self, data: Any) -> dict[str, Any]:
        """The data card of the encoded splits for data.json; `data` is the TaskData."""
        return {}

    def write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        """Write rows with their predictions, whole or not at all."""
        from ftrun.data.tables import write_table

        write_table(path, rows)


class Dataset(ABC):
    """One encoded split: its examples, and how they become batches."""

    _multiple = 1  # tokens to a multiple of which a batch is padded, but never beyond the longest example

    def __init__(self, examples: Sequence[Example], summary: str, epochs: Epochs | None = None) -> None:
        self.examples = examples
        self.summary = summary  # a message about their lengths or shapes
        self._epochs = epochs  # None: every epoch has all of them

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> Example:
        return self.examples[place]

    @abstractmethod
    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        """One batch: `inputs`, the padded tensors that the network takes by name, and `labels`.

        Without a draw, for evaluation, it is always the same. One that depends on its draw has it, as `draw`.
        """

    def _width(self, examples: Sequence[Example]) -> int:
        """The tokens to which these examples are padded at least; 0 where their longest decides."""
        if self._multiple == 1:
            return 0
        return self._rounded(max(example.size for example in examples), self._longest)

    def _rounded(self, longest: int, most: int) -> int:
        """So many tokens, up to the multiple to which batches are padded."""
        return min(-(-longest // self._multiple) * self._multiple, most)

    @cached_property
    def _longest(self) -> int:
        """The tokens of the longest example that the network reads."""
        return int(max(sizes_of(in_windows(self))))

    def epoch(self, seed: int, epoch: int) -> Sequence[int]:
        """Places of the examples of an epoch, a function of seed and epoch."""
        return range(len(self)) if self._epochs is None else self._epochs(seed, epoch)

    def of(self, examples: Sequence[Example], multiple: int = 1) -> Dataset:
        """The same dataset with other examples, in batches of a multiple of so many tokens."""
        other = copy.copy(self)
        other.examples = examples
        other._multiple = multiple
        vars(other).pop("_longest", None)
        return other

    def reference(self, data: Any) -> Dataset | None:
        """The examples, if any, whose answers are needed to score this dataset."""
        return None


def windows_of(examples: Sequence[Example]) -> list[Example]:
    """The examples that the network reads for these, in their order."""
    return [window for example in examples for window in example.windows]


def in_windows(dataset: Dataset) -> Dataset:
    """The same dataset with each window by itself, of examples that the network reads in several."""
    if not isinstance(dataset.examples, list):
        return dataset
    found = windows_of(dataset.examples)
    return dataset if len(found) == len(dataset.examples) else dataset.of(found, dataset._multiple)


def sizes_of(dataset: Dataset, places: Sequence[int] | None = None) -> Sequence[int]:
    """The tokens of the examples at these places, of all where none are given."""
    if isinstance(dataset.examples, MadeExamples):
        whole = dataset.examples.sizes
        return whole if places is None or places == range(len(whole)) else [whole[at] for at in places]
    return [dataset[place].size for place in (range(len(dataset)) if places is None else places)]


def labels_of(dataset: Dataset, examples: Sequence[Example]) -> Any:
    """The labels that batches of these examples have, a tensor with one row for each."""
    import torch

    parts = (examples[start : start + CHUNK] for start in range(0, len(examples), CHUNK))
    return torch.cat([dataset.collate(part)["labels"] for part in parts])


def rows_of(dataset: Dataset) -> Sequence[int]:
    """The rows of the examples, or the places in a corpus, whose examples are made on access."""
    if isinstance(dataset.examples, list):
        return sorted({example.row for example in dataset.examples})
    return range(len(dataset))
