"""Text classification: one text, one label out of a set; cross-entropy on the head's logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.errors import ConfigError
from ftrun.splits import parse_subset
from ftrun.tasks.base import Answer, Batch, Example, Task
from ftrun.values import one_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


@dataclass
class Classify(Task):
    """One text column, one label column."""

    name: str
    train: str | None
    validation: str | None
    test: str | None
    text: str
    label: str
    labels: Any  # the declared label names, or null for the union of the splits
    max_length: int
    long: str
    subset: Any  # null, a number of training rows, or "k per class"

    metrics: ClassVar[dict[str, str]] = {
        "accuracy": "max",
        "f1": "max",
        "precision": "max",
        "recall": "max",
        "matthews_correlation": "max",
        "loss": "min",
    }
    default_metric: ClassVar[str] = "accuracy"
    answer_columns: ClassVar[tuple[str, ...]] = ("answer", "probability")
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"

    def __post_init__(self) -> None:
        if self.train is None:
            raise ConfigError(
                "task.train is not set: give a csv, tsv, jsonl or parquet file, task.train=FILE"
            )
        if self.max_length < 3:
            raise ConfigError(f"task.max_length is at least 3, not {self.max_length}")
        one_of("task.long", self.long, ["truncate", "drop", "error"])
        if self.subset is not None:
            parse_subset(self.subset)
        self.encoded: dict[str, list[Example]] = {}

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
        )
        self.names = label_set(self.rows, self.label, self.labels)
        return [*self.rows.notes, *self.names.notes]

    def head(self) -> dict[str, Any]:
        names = self.names.names
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": "single_label_classification",
        }

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
        return report.line()

    def restore(self, config: PretrainedConfig) -> None:
        from ftrun.labels import Labels

        self.names = Labels([config.id2label[i] for i in range(config.num_labels)], [])

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

    def examples(self, split: str) -> Sequence[Example]:
        return self.encoded[split]

    def collate(self, examples: Sequence[Example]) -> Batch:
        from ftrun.batching import pad

        ids, mask = pad([example.inputs for example in examples], self.pad)
        inputs = {"input_ids": ids, "attention_mask": mask}
        return {"inputs": inputs, "labels": [example.target for example in examples]}

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        import torch

        labels = torch.tensor(batch["labels"], device=outputs.device)
        return torch.nn.functional.cross_entropy(outputs.float(), labels, reduction="sum"), len(labels)

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        probabilities = outputs.detach().float().softmax(-1).cpu()
        names = self.names.names
        return [
            {"answer": names[int(row.argmax())], "probability": float(row.max())} for row in probabilities
        ]

    def given(self, example: Example) -> str:
        return self.names.names[example.target]

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, precision_score, recall_score

        given = [self.given(example) for example in examples]
        answered = [answer["answer"] for answer in answers]
        macro = {"average": "macro", "zero_division": 0}
        return {
            "accuracy": float(accuracy_score(given, answered)),
            "f1": float(f1_score(given, answered, **macro)),
            "precision": float(precision_score(given, answered, **macro)),
            "recall": float(recall_score(given, answered, **macro)),
            "matthews_correlation": float(matthews_corrcoef(given, answered)),
        }

    def fingerprint(self) -> str:
        return self.rows.fingerprint
