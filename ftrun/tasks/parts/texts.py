"""Texts of a table's rows, or pairs of them, as token ids in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.tables import Columns, columns_of, one_name
from ftrun.errors import ConfigError
from ftrun.tasks.dataset import Batch, Dataset, Draw, Epochs, Example, windows_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.text.encoding import LengthReport
    from ftrun.tasks.data import TaskData


LEAST = {1: 3, 2: 6}  # tokens for one text and for two: the special ones, and a token of each text


def count_texts(text: Columns, max_length: int) -> int:
    """How many columns are read together, one or two; ConfigError for others, and where they have no room."""
    texts = len(columns_of(text))
    if not isinstance(text, str) and (texts != 2 or text[0] == text[1]):
        raise ConfigError(f"task.text is a column, or two different ones [first,second], not {text}")
    if max_length < LEAST[texts]:
        of = "" if texts == 1 else " for two texts"
        raise ConfigError(f"task.max_length is at least {LEAST[texts]}{of}, not {max_length}")
    return texts


def refuse_several(label: Columns) -> None:
    """ConfigError for several label columns."""
    if not isinstance(label, str):
        raise ConfigError(
            f"task.label={one_name(label)}: a label is in one column; possible: one of them, or"
            " task=multilabel, where each column is of one label and holds 0 or 1"
        )


@dataclass
class Pair(Example):
    """Two texts in one example, for a network that tells them apart by their token types."""

    types: list[int]


class TableDataset(Dataset):
    """Encoded rows of a table; `labels` makes the targets of a batch what the objective compares with."""

    def __init__(
        self,
        task: Any,  # a TextTable
        data: TaskData,
        examples: Sequence[Example],
        report: LengthReport,
        warning: str = "",
        epochs: Epochs | None = None,
    ) -> None:
        super().__init__(examples, report.line() + warning, epochs)
        self.lengths, self.aggregate = report.card(), task.aggregate
        self.padding, self.labels = data.processor.pad_token_id, task.labels_of(data.spec)

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        from ftrun.data.batching import labels_tensor
        from ftrun.tasks.parts.long_texts import told_windows

        read = windows_of(examples)
        return {
            "inputs": padded(read, self.padding, self._width(read)),
            "labels": labels_tensor(self.labels([example.target for example in examples])),
            **told_windows(examples, read, self.aggregate),
        }


def examples_of(
    tokenizer: PreTrainedTokenizerBase, columns: list[list[str]], *, split: str, max_length: int, long: str
) -> tuple[list[Example], LengthReport]:
    """Examples without a target yet."""
    from ftrun.data.text.encoding import encode, encode_pairs

    limits: dict[str, Any] = {"split": split, "max_length": max_length, "long": long}
    if len(columns) == 1:
        ids, kept, report = encode(tokenizer, columns[0], **limits)
        return [Example(tokens, None, row) for tokens, row in zip(ids, kept, strict=True)], report
    pairs = list(zip(*columns, strict=True))
    ids, types, kept, report = encode_pairs(tokenizer, pairs, **limits)
    if types is None:
        return [Example(tokens, None, row) for tokens, row in zip(ids, kept, strict=True)], report
    return [Pair(tokens, None, row, own) for tokens, own, row in zip(ids, types, kept, strict=True)], report


def separates(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether special tokens stand between two texts; those of most decoders do not."""
    return tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False)


def unseparated(text: Columns, tokenizer: PreTrainedTokenizerBase) -> str:
    """A warning where nothing stands between two texts, for the summary of a split."""
    joined = len(columns_of(text)) == 2 and not separates(tokenizer)
    return "; warning: this tokenizer puts no separator between the two texts" if joined else ""


def padded(examples: Sequence[Example], padding: int, width: int = 0) -> dict[str, Tensor]:
    """The padded tensors by the names that networks take, each (batch, length)."""
    from ftrun.data.batching import pad

    ids, mask = pad([example.inputs for example in examples], padding, width)
    inputs = {"input_ids": ids, "attention_mask": mask}
    types = [example.types for example in examples if isinstance(example, Pair)]
    if types:
        inputs["token_type_ids"], _ = pad(types, 0, width)
    return inputs
