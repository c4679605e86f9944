"""Text classification: one text, one label out of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun import balance, duplicates
from ftrun.errors import ConfigError
from ftrun.splits import parse_subset, pick
from ftrun.tasks.base import SPLITS, Batch, Example
from ftrun.tasks.labelled import Labelled
from ftrun.values import one_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Classify(Labelled):
    """One text column, one label column."""

    name: str
    train: str | list[str] | None
    validation: str | list[str] | None
    test: str | list[str] | None
    text: str
    label: str
    labels: Any  # the declared label names, or null for the union of the splits
    max_length: int
    long: str
    subset: Any  # null, a number of training rows, or "k per class"
    balance: str
    leaks: str

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"

    def __post_init__(self) -> None:
        if self.train is None:
            raise ConfigError(
                "task.train is not set: give a file (csv, tsv, jsonl, json, txt, parquet), task.train=FILE"
            )
        if self.max_length < 3:
            raise ConfigError(f"task.max_length is at least 3, not {self.max_length}")
        one_of("task.long", self.long, ["truncate", "drop", "error"])
        one_of("task.balance", self.balance, balance.WAYS)
        one_of("task.leaks", self.leaks, duplicates.WAYS)
        self.lengths: dict[str, dict[str, Any]] = {}  # split → its length report
        if self.subset is not None:
            parse_subset(self.subset)
        super().__post_init__()

    def balanced_by(self) -> str:
        return self.balance

    def read(self, seed: int) -> list[str]:
        from ftrun.data import label_set, load_splits

        self.rows = load_splits(
            train=self.train,
            validation=self.validation,
            test=self.test,
            text=self.text,
            label=self.label,
            subset=self.subset,
            seed=seed,
            leaks=self.leaks,
        )
        self.names = label_set(self.rows, self.label, self.labels)
        return [*self.rows.notes, *self.names.notes]

    def encode(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        from ftrun.text import encode

        rows = getattr(self.rows, split)
        texts = [row[self.text] for row in rows]
        self.pad = tokenizer.pad_token_id
        ids, kept, report = encode(tokenizer, texts, split=split, max_length=self.max_length, long=self.long)
        self.encoded[split] = [
            Example(tokens, self.names.index(rows[row][self.label]), row)
            for tokens, row in zip(ids, kept, strict=True)
        ]
        self.lengths[split] = {name: value for name, value in asdict(report).items() if name != "cached"}
        return report.line()

    def read_test(self, file: str) -> None:
        from ftrun.data import load_test

        self.rows = load_test(file, text=self.text, label=self.label, labels=self.names)

    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        from ftrun.data import texts_of
        from ftrun.text import encode

        self.pad = tokenizer.pad_token_id
        texts = texts_of(rows, self.text, file)
        readable = [row for row, text in enumerate(texts) if text]
        ids, kept, _ = encode(
            tokenizer,
            [texts[row] for row in readable],
            split=file,
            max_length=self.max_length,
            long="truncate",
        )
        return [Example(tokens, None, readable[row]) for tokens, row in zip(ids, kept, strict=True)]

    def collate(self, examples: Sequence[Example]) -> Batch:
        from ftrun.batching import pad

        ids, mask = pad([example.inputs for example in examples], self.pad)
        inputs = {"input_ids": ids, "attention_mask": mask}
        return {"inputs": inputs, "labels": [example.target for example in examples]}

    def card(self) -> dict[str, Any]:
        from ftrun.datacard import baseline_scores, contents

        used = {split: [getattr(self.rows, split)[e.row] for e in self.examples(split)] for split in SPLITS}
        texts = {split: [row[self.text] for row in rows] for split, rows in used.items()}
        labels = {split: [row[self.label] for row in rows] for split, rows in used.items()}
        found = contents(used, self.text, self.label) | {"lengths": self.lengths}
        found["notes"] = [*self.rows.notes, *self.names.notes]
        if self.balance == "weights":
            found["weights"] = dict(zip(self.names.names, self.weights, strict=True))
        return found | {
            "baselines": baseline_scores(
                texts,
                labels,
                lambda answers, split, places: self.score(answers, pick(self.examples(split), places)),
            )
        }

    def fingerprint(self) -> str:
        return self.rows.fingerprint
