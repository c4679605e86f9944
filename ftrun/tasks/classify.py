"""Text classification: one text or two, one label out of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data import balance
from ftrun.data.splits import pick
from ftrun.tasks import texts
from ftrun.tasks.base import Batch, Example
from ftrun.tasks.labelled import Labelled
from ftrun.values import one_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Classify(Labelled):
    """One text column or a pair of them, one label column."""

    name: str
    train: str | list[str] | None
    validation: str | list[str] | None
    test: str | list[str] | None
    text: str | list[str]
    label: str
    labels: Any  # the declared label names, or null for the union of the splits
    max_length: int
    long: str
    subset: Any  # null, a number of training rows, or "k per class"
    balance: str
    leaks: str

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"

    def __post_init__(self) -> None:
        texts.check(self)
        one_of("task.balance", self.balance, balance.WAYS)
        self.lengths: dict[str, dict[str, Any]] = {}  # split → its length report
        super().__post_init__()

    def balanced_by(self) -> str:
        return self.balance

    def read(self, seed: int) -> list[str]:
        from ftrun.data.rows import label_set, load_splits

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
        self.pad = tokenizer.pad_token_id
        self.encoded[split], self.lengths[split], line = texts.encoded(
            tokenizer,
            getattr(self.rows, split),
            self.text,
            lambda row: self.names.index(row[self.label]),
            split=split,
            max_length=self.max_length,
            long=self.long,
        )
        return line

    def read_test(self, file: str) -> None:
        from ftrun.data.rows import load_test

        self.rows = load_test(file, text=self.text, label=self.label, labels=self.names)

    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        self.pad = tokenizer.pad_token_id
        return texts.asked(tokenizer, rows, self.text, file, self.max_length)

    def collate(self, examples: Sequence[Example]) -> Batch:
        inputs = texts.collated(examples, self.pad)
        return {"inputs": inputs, "labels": [example.target for example in examples]}

    def card(self) -> dict[str, Any]:
        from ftrun.data.datacard import baseline_scores

        found, used = texts.card(self, self.label), texts.used(self)
        read = {split: texts.joined(rows, self.text) for split, rows in used.items()}
        labels = {split: [row[self.label] for row in rows] for split, rows in used.items()}
        found["notes"] += self.names.notes
        if self.balance == "weights":
            found["weights"] = dict(zip(self.names.names, self.weights, strict=True))
        return found | {
            "baselines": baseline_scores(
                read,
                labels,
                lambda answers, split, places: self.score(answers, pick(self.examples(split), places)),
            )
        }

    def fingerprint(self) -> str:
        return self.rows.fingerprint
