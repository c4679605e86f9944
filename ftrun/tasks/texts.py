"""What tasks on tables of text share: one text or two per row become examples, and examples batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ftrun.data import duplicates
from ftrun.data.splits import parse_subset
from ftrun.errors import ConfigError
from ftrun.tasks.base import SPLITS, Example
from ftrun.values import one_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ftrun.text.encoding import LengthReport

Columns = str | list[str]  # one text, or a pair of texts
LEAST = {1: 3, 2: 6}  # tokens for one text and for two: the special ones, and a token of each text


@dataclass
class Pair(Example):
    """Two texts in one example, for a network that tells them apart by their token types."""

    types: list[int]


class Table(Protocol):
    """The settings that every task on a table of text has, and what it has read."""

    train: str | list[str] | None
    text: Columns
    max_length: int
    long: str
    subset: Any
    leaks: str
    rows: Any
    lengths: dict[str, dict[str, Any]]

    def examples(self, split: str) -> Sequence[Example]: ...


def check(task: Table) -> None:
    """ConfigError for what no table of text can have."""
    text, max_length = task.text, task.max_length
    if task.train is None:
        raise ConfigError(
            "task.train is not set: give a file (csv, tsv, jsonl, json, txt, parquet), task.train=FILE"
        )
    texts = 1 if isinstance(text, str) else 2
    if texts == 2 and (len(text) != 2 or text[0] == text[1]):
        raise ConfigError(f"task.text is a column, or two different ones [first,second], not {text}")
    if max_length < LEAST[texts]:
        of = "" if texts == 1 else " for two texts"
        raise ConfigError(f"task.max_length is at least {LEAST[texts]}{of}, not {max_length}")
    one_of("task.long", task.long, ["truncate", "drop", "error"])
    one_of("task.leaks", task.leaks, duplicates.WAYS)
    if task.subset is not None:
        parse_subset(task.subset)


def used(task: Table) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split that became examples."""
    return {split: [getattr(task.rows, split)[e.row] for e in task.examples(split)] for split in SPLITS}


def joined(rows: list[dict[str, Any]], text: Columns) -> list[str]:
    """The text of each row, of two columns both."""
    names = [text] if isinstance(text, str) else text
    return ["\n".join(row[name] for name in names) for row in rows]


def card(task: Table, label: str | None) -> dict[str, Any]:
    """What data.json keeps of a table of text; `label` is a column of names."""
    from ftrun.data.datacard import contents

    found = contents(used(task), task.text, label)
    return found | {"lengths": task.lengths, "notes": list(task.rows.notes)}


def encoded(
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, Any]],
    text: Columns,
    target: Callable[[dict[str, Any]], Any],
    *,
    split: str,
    max_length: int,
    long: str,
) -> tuple[list[Example], dict[str, Any], str]:
    """The rows as examples, and a report of their lengths, also in a line. Raises DataError."""
    names = [text] if isinstance(text, str) else text
    columns = [[row[name] for row in rows] for name in names]
    found, report = examples_of(tokenizer, columns, split=split, max_length=max_length, long=long)
    for example in found:
        example.target = target(rows[example.row])
    line = report.line()
    if len(names) == 2 and not separates(tokenizer):
        line += "; warning: this tokenizer puts nothing between the two texts"
    return found, {name: value for name, value in asdict(report).items() if name != "cached"}, line


def asked(
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, Any]],
    text: Columns,
    file: str,
    max_length: int,
) -> list[Example]:
    """Rows of a file without targets; one with an empty text is left out. Raises DataError."""
    from ftrun.data.rows import texts_of

    names = [text] if isinstance(text, str) else text
    columns = [texts_of(rows, name, file) for name in names]
    readable = [row for row, texts in enumerate(zip(*columns, strict=True)) if all(texts)]
    chosen = [[column[row] for row in readable] for column in columns]
    found, _ = examples_of(tokenizer, chosen, split=file, max_length=max_length, long="truncate")
    for example in found:
        example.row = readable[example.row]
    return found


def examples_of(
    tokenizer: PreTrainedTokenizerBase, columns: list[list[str]], *, split: str, max_length: int, long: str
) -> tuple[list[Example], LengthReport]:
    """Examples without a target yet."""
    from ftrun.text.encoding import encode, encode_pairs

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


def collated(examples: Sequence[Example], padding: int) -> dict[str, Tensor]:
    """The padded tensors by the names that networks take, each (batch, length)."""
    from ftrun.batching import pad

    ids, mask = pad([example.inputs for example in examples], padding)
    inputs = {"input_ids": ids, "attention_mask": mask}
    types = [example.types for example in examples if isinstance(example, Pair)]
    if types:
        inputs["token_type_ids"], _ = pad(types, 0)
    return inputs
