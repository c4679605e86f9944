"""What tasks on tables of text share: one text or two per row become examples, and examples batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data import leaks as duplicates
from ftrun.data.label_columns import ONE_NAME, Reading
from ftrun.data.splits import parse_subset
from ftrun.data.tables import Columns, columns_of
from ftrun.errors import ConfigError
from ftrun.settings.checks import one_of
from ftrun.tasks.base import SPLITS, Example, Task

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.labels import Labels
    from ftrun.data.text.encoding import LengthReport

LEAST = {1: 3, 2: 6}  # tokens for one text and for two: the special ones, and a token of each text


@dataclass
class Pair(Example):
    """Two texts in one example, for a network that tells them apart by their token types."""

    types: list[int]


@dataclass
class TextTable(Task):
    """Rows of a table with one text or a pair of them, and a label whose meaning is the part of the task."""

    name: str
    train: str | list[str] | None
    validation: str | list[str] | None
    test: str | list[str] | None
    text: Columns
    label: str
    max_length: int
    long: str
    subset: Any  # null, a number of training rows or, of classes, "k per class"
    leaks: str

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    reading: ClassVar[Reading] = ONE_NAME  # how the label column is read
    in_use: ClassVar[list[str] | None] = None  # the labels whose rows are taken, None for all

    def __post_init__(self) -> None:
        if self.train is None:
            raise ConfigError(
                "task.train is not set: give a file (csv, tsv, jsonl, json, txt, parquet), task.train=FILE"
            )
        texts = len(columns_of(self.text))
        if not isinstance(self.text, str) and (texts != 2 or self.text[0] == self.text[1]):
            raise ConfigError(f"task.text is a column, or two different ones [first,second], not {self.text}")
        if self.max_length < LEAST[texts]:
            of = "" if texts == 1 else " for two texts"
            raise ConfigError(f"task.max_length is at least {LEAST[texts]}{of}, not {self.max_length}")
        one_of("task.long", self.long, ["truncate", "drop", "error"])
        one_of("task.leaks", self.leaks, duplicates.WAYS)
        if self.subset is not None:
            parse_subset(self.subset)
        self.lengths: dict[str, dict[str, Any]] = {}  # split → its length report
        self.encoded: dict[str, list[Example]] = {}

    @abstractmethod
    def target(self, row: dict[str, Any]) -> Any:
        """The target of an example, from its row."""

    def labels_known(self) -> Labels | None:
        """The names a label may have; None where it is no name."""
        return None

    def load(self, seed: int) -> None:
        from ftrun.data.rows import load_splits

        self.rows = load_splits(
            train=self.train,
            validation=self.validation,
            test=self.test,
            text=self.text,
            label=self.label,
            subset=self.subset,
            seed=seed,
            leaks=self.leaks,
            reading=self.reading,
            classes=self.in_use,
        )

    def read_test(self, file: str) -> list[str]:
        from ftrun.data.rows import load_test

        known = self.labels_known()
        self.rows = load_test(
            file, text=self.text, label=self.label, labels=known, reading=self.reading, classes=self.in_use
        )
        return self.rows.notes

    def encode(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        self.pad = tokenizer.pad_token_id
        rows = getattr(self.rows, split)
        columns = [[row[name] for row in rows] for name in columns_of(self.text)]
        self.encoded[split], report = examples_of(
            tokenizer, columns, split=split, max_length=self.max_length, long=self.long
        )
        for example in self.encoded[split]:
            example.target = self.target(rows[example.row])
        self.lengths[split] = {name: value for name, value in asdict(report).items() if name != "cached"}
        warning = "; warning: this tokenizer puts nothing between the two texts"
        return report.line() + (warning if len(columns) == 2 and not separates(tokenizer) else "")

    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        """Rows of a file without targets; one with an empty text is left out. Raises DataError."""
        from ftrun.data.rows import texts_of

        self.pad = tokenizer.pad_token_id
        columns = [texts_of(rows, name, file) for name in columns_of(self.text)]
        readable = [row for row, texts in enumerate(zip(*columns, strict=True)) if all(texts)]
        chosen = [[column[row] for row in readable] for column in columns]
        found, _ = examples_of(tokenizer, chosen, split=file, max_length=self.max_length, long="truncate")
        for example in found:
            example.row = readable[example.row]
        return found

    def examples(self, split: str) -> Sequence[Example]:
        return self.encoded[split]

    def used(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of each split that became examples."""
        return {split: [getattr(self.rows, split)[e.row] for e in self.examples(split)] for split in SPLITS}

    def texts(self) -> dict[str, list[str]]:
        """The text of each of these rows, of two columns both."""
        names = columns_of(self.text)
        used = self.used().items()
        return {split: ["\n".join(row[name] for name in names) for row in rows] for split, rows in used}

    def card(self) -> dict[str, Any]:
        from ftrun.data.card import repetitions

        rows = self.used()
        return {
            "rows": {split: len(part) for split, part in rows.items()},
            "lengths": self.lengths,
            **repetitions(duplicates.of_columns(rows, self.text)),
            "notes": list(self.rows.notes),
        }

    def labels_used(self) -> dict[str, list[Any]]:
        """What stands in the label column of the rows that became examples."""
        return {split: [row[self.label] for row in rows] for split, rows in self.used().items()}

    def fingerprint(self) -> str:
        return self.rows.fingerprint


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


def collated(examples: Sequence[Example], padding: int) -> dict[str, Tensor]:
    """The padded tensors by the names that networks take, each (batch, length)."""
    from ftrun.data.batching import pad

    ids, mask = pad([example.inputs for example in examples], padding)
    inputs = {"input_ids": ids, "attention_mask": mask}
    types = [example.types for example in examples if isinstance(example, Pair)]
    if types:
        inputs["token_type_ids"], _ = pad(types, 0)
    return inputs
