"""Texts in several windows that have one answer, made of the mean or the maximum of the windows' logits.

So long documents are often read (Pappagari et al. 2019, "Hierarchical Transformers for Long Document
Classification").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError
from ftrun.settings.checks import at_least, one_of
from ftrun.tasks.dataset import Batch, Example
from ftrun.tasks.parts.windowed import part_of_window, refuse_full

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.text.encoding import LengthReport
    from ftrun.settings.schema import Settings

LONG = ["truncate", "drop", "error", "windows"]
SHARED = 4  # task.stride=auto is one of so many parts of a window
SHARES = "shares"  # of a batch of windows: the part that each has in its row's loss
JOINED = {"mean": lambda logits: logits.mean(0), "max": lambda logits: logits.amax(0)}


@dataclass
class Window(Example):
    """One of several windows of a row, whose label it has."""

    share: float  # of the row's loss


@dataclass
class LongText(Example):
    """A text in several windows; `inputs` are the tokens of all of them, one after the other."""

    ids: list[list[int]]  # of each window

    @cached_property
    def windows(self) -> list[Example]:
        share = 1 / len(self.ids)
        return [Window(ids, self.target, self.row, place=self.place, share=share) for ids in self.ids]


@dataclass
class Join:
    """How the outputs of a batch's windows become those of its rows."""

    counts: list[int]  # windows of each row
    how: str  # of JOINED

    def __call__(self, outputs: Tensor) -> Tensor:
        """Of (windows, outputs), (rows, outputs)."""
        import torch

        return torch.stack([JOINED[self.how](part) for part in outputs.split(self.counts)])


def by_row(examples: Sequence[Example], outputs: Tensor, how: str = "mean") -> Tensor:
    """Of the outputs of all windows of these examples, (windows, outputs), those of the examples."""
    return Join([len(example.windows) for example in examples], how)(outputs)


def overlap_of(stride: int | str, max_length: int, aggregate: str, texts: int, stream: bool) -> int:
    """The tokens that neighbouring windows share; ConfigError for settings that allow no windows."""
    one_of("task.aggregate", aggregate, [*JOINED])
    why = {
        "task.text has two columns, and windows are cut from one text": texts > 1,
        "task.stream=true keeps one example for each training row": stream,
    }
    for words, found in why.items():
        if found:
            raise ConfigError(f"task.long=windows: {words}; possible: task.long=truncate, drop or error")
    overlap = part_of_window("task.stride", stride, max_length, SHARED)
    at_least("task.stride", overlap, 0)
    refuse_full(max_length, stride=(overlap, stride))
    return overlap


def refuse_sharded(settings: Settings) -> None:
    """ConfigError where every process must have as many examples as the others."""
    if settings.train.shard:
        raise ConfigError(
            "task.long=windows makes several examples of a row, and train.shard=true needs as many in each"
            " process; possible: train.shard=false, or task.long=truncate"
        )


def examples_in_windows(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], *, split: str, max_length: int, stride: int
) -> tuple[list[Example], LengthReport]:
    """Examples without a target yet, of longer texts in windows."""
    from ftrun.data.text.encoding import encode_windows

    limits = {"max_length": max_length, "stride": stride}
    found, lengths, report = encode_windows(tokenizer, texts, split=split, **limits)
    pairs = zip(found, lengths, strict=True)
    return [example_of(ids, row, length) for row, (ids, length) in enumerate(pairs)], report


def example_of(ids: list[list[int]], row: int, length: int) -> Example:
    if len(ids) == 1:
        return Example(ids[0], None, row)
    return LongText([token for own in ids for token in own], None, row, ids=ids, whole=length)


def told_windows(examples: Sequence[Example], read: Sequence[Example], how: str) -> Batch:
    """What a batch of these examples says of windows; `read` are the windows in it, all of them."""
    if len(read) > len(examples):
        return {"windows": Join([len(example.windows) for example in examples], how)}
    if any(isinstance(example, Window) for example in examples):
        return {SHARES: [example.share if isinstance(example, Window) else 1.0 for example in examples]}
    return {}
