"""Text classification with any number of labels per row: each label is a yes or a no of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.label_columns import refuse_per_class, several
from ftrun.errors import ConfigError
from ftrun.tasks.base import Answer, Batch, Example
from ftrun.tasks.parts.labelled import Labelled, by_class
from ftrun.tasks.parts.table import TextTable, collated

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.data.labels import Labels


@dataclass
class Multilabel(TextTable, Labelled):
    """One text column or a pair of them, a column with a list of labels; a row may have none."""

    labels: Any  # the declared label names, or null for the union of the splits
    separator: str | None
    threshold: float

    metrics: ClassVar[dict[str, str]] = {
        "micro_f1": "max",
        "macro_f1": "max",
        "subset_accuracy": "max",
        "loss": "min",
    }
    default_metric: ClassVar[str] = "micro_f1"
    answer_columns: ClassVar[tuple[str, ...]] = ("answer", "probabilities")

    def __post_init__(self) -> None:
        refuse_per_class(self.subset, "a row may have several labels")
        if not 0 < self.threshold < 1:
            raise ConfigError(f"task.threshold is between 0 and 1, not {self.threshold:g}")
        if self.separator == "":
            raise ConfigError("task.separator is empty; null means that the column holds lists")
        self.reading = several(self.separator)  # type: ignore[misc]
        super().__post_init__()

    def read(self, seed: int) -> list[str]:
        from ftrun.data.rows import label_set

        self.load(seed)
        self.names = label_set(self.rows, self.label, self.labels)
        return [*self.rows.notes, *self.names.notes, self.counted()]

    def counted(self) -> str:
        numbers = [len(row[self.label]) for row in self.rows.train]
        return (
            f"train: {sum(numbers) / len(numbers):.2f} of {len(self.names.names)} labels per row, "
            f"{numbers.count(0):,} of {len(numbers):,} rows have none"
        )

    def card(self) -> dict[str, Any]:
        from ftrun.data.card import counted

        labels, found = self.labels_used(), super().card()
        found["notes"] += self.names.notes
        each = {split: [name for row in rows for name in row] for split, rows in labels.items()}
        baselines = self.baselines(self.texts(), labels, self.threshold)
        return found | {"labels": counted(each), "baselines": baselines}

    def head(self) -> dict[str, Any]:
        return super().head() | {"problem_type": "multi_label_classification"}

    def target(self, row: dict[str, Any]) -> tuple[int, ...]:
        return tuple(sorted(map(self.names.index, row[self.label])))

    def labels_known(self) -> Labels:
        return self.names

    def collate(self, examples: Sequence[Example]) -> Batch:
        """`labels` has a 1 for each label of a row and a 0 for each other: (batch, labels)."""
        wide = range(len(self.names.names))
        given = [set(example.target or ()) for example in examples]
        return {
            "inputs": collated(examples, self.pad),
            "labels": [[float(index in own) for index in wide] for own in given],
        }

    def target_count(self, batch: Batch) -> int:
        return len(batch["labels"]) * len(self.names.names)

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Binary cross-entropy over rows and labels; its mean is transformers' own multi-label loss."""
        import torch

        labels = torch.tensor(batch["labels"], device=outputs.device)
        total = torch.nn.functional.binary_cross_entropy_with_logits(outputs.float(), labels, reduction="sum")
        return total, labels.numel()

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        """Every label of at least `threshold`, and the probability of each."""
        found = []
        for row in outputs.detach().float().sigmoid().cpu().tolist():
            probabilities = dict(zip(self.names.names, row, strict=True))
            chosen = [name for name, p in probabilities.items() if p >= self.threshold]
            found.append({"answer": chosen, "probabilities": probabilities})
        return found

    def given(self, example: Example) -> list[str]:
        return [self.names.names[index] for index in example.target]

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        from sklearn.metrics import f1_score

        given, answered = self.indicators(answers, examples)
        return {
            "micro_f1": float(f1_score(given, answered, average="micro", zero_division=0)),
            "macro_f1": float(f1_score(given, answered, average="macro", zero_division=0)),
            "subset_accuracy": float((given == answered).all(axis=1).mean()),
        }

    def details(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, Any]:
        given, answered = self.indicators(answers, examples)
        return {"classes": by_class(given, answered, self.names.names, range(len(self.names.names)))}

    def indicators(self, answers: Sequence[Answer], examples: Sequence[Example]) -> tuple[Any, Any]:
        """What was right and what was answered as zeros and ones, (rows, labels)."""
        import numpy

        shape = len(examples), len(self.names.names)
        given: Any = numpy.zeros(shape, dtype=int)
        answered: Any = numpy.zeros(shape, dtype=int)
        for row, (answer, example) in enumerate(zip(answers, examples, strict=True)):
            given[row, list(example.target)] = 1
            answered[row, [self.names.index(name) for name in answer["answer"]]] = 1
        return given, answered
