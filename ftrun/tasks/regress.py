"""Regression: one text or two, and a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.label_columns import NUMBER, Reading, refuse_per_class
from ftrun.errors import DataError
from ftrun.runs.terminal import say
from ftrun.tasks.base import Answer, Batch, Example
from ftrun.tasks.parts.table import TextTable, collated

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor
    from transformers import PretrainedConfig

SAME = 1e-6  # standard deviations of the target: answers closer together differ by the rounding of fp32


@dataclass
class Regress(TextTable):
    """One text column or a pair of them, a column of numbers.

    The network learns (number - mean) / scale with the mean and the standard deviation of the training rows;
    both stand in its configuration as `target_mean` and `target_scale`. The loss is the mean squared error of
    these: 1 for always answering the mean. Everything else is in the units of the column.
    """

    metrics: ClassVar[dict[str, str]] = {
        "pearson": "max",
        "spearmanr": "max",
        "mae": "min",
        "rmse": "min",
        "loss": "min",
    }
    default_metric: ClassVar[str] = "pearson"
    answer_columns: ClassVar[tuple[str, ...]] = ("answer",)
    reading: ClassVar[Reading] = NUMBER
    shares_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_per_class(self.subset, "numbers have no classes")
        self.scaling: tuple[float, float] | None = None  # mean and scale; a finished run's stay as they were

    def read(self, seed: int) -> list[str]:
        self.load(seed)
        numbers = [row[self.label] for row in self.rows.train]
        if self.scaling is None:
            self.scaling = scaling_of(numbers, self.label)
        low, high = min(numbers), max(numbers)
        mean, scale = self.scaling
        said = (
            f"train: {self.label} from {low:g} to {high:g}, mean {mean:.4g}, standard deviation {scale:.4g}"
        )
        return [*self.rows.notes, said]

    def card(self) -> dict[str, Any]:
        from statistics import fmean, pstdev

        numbers = {
            split: {
                "lowest": min(part),
                "mean": fmean(part),
                "highest": max(part),
                "deviation": pstdev(part),
            }
            for split, part in self.labels_used().items()
        }
        return super().card() | {"numbers": numbers}

    @property
    def standard(self) -> tuple[float, float]:
        """Mean and scale of the targets."""
        assert self.scaling is not None, "the rows are read first"
        return self.scaling

    def head(self) -> dict[str, Any]:
        mean, scale = self.standard
        return {
            "num_labels": 1,
            "id2label": {0: self.label},
            "label2id": {self.label: 0},
            "problem_type": "regression",
            "target_mean": mean,
            "target_scale": scale,
        }

    def restore(self, config: PretrainedConfig) -> None:
        self.scaling = (config.target_mean, config.target_scale)

    def target(self, row: dict[str, Any]) -> float:
        return row[self.label]

    def collate(self, examples: Sequence[Example]) -> Batch:
        """`labels` are the standardised numbers; what has none yet counts as the mean."""
        mean, scale = self.standard
        numbers = [mean if example.target is None else example.target for example in examples]
        return {
            "inputs": collated(examples, self.pad),
            "labels": [(number - mean) / scale for number in numbers],
        }

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        import torch

        labels = torch.tensor(batch["labels"], device=outputs.device)
        total = torch.nn.functional.mse_loss(outputs[:, 0].float(), labels, reduction="sum")
        return total, len(labels)

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        mean, scale = self.standard
        return [{"answer": mean + scale * value} for value in outputs[:, 0].detach().double().cpu().tolist()]

    def given(self, example: Example) -> float:
        return example.target

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        import numpy

        given = numpy.array([example.target for example in examples])
        answered = numpy.array([answer["answer"] for answer in answers])
        constant = False
        for what, values in (("label", given), ("answer", answered)):
            if values.max() - values.min() <= SAME * self.standard[1]:
                constant = True
                say(
                    f"warning: the {what} of all {len(values)} rows is {values[0]:.4g}, so there is no "
                    "correlation; pearson and spearmanr count as 0"
                )
        return {
            "pearson": 0.0 if constant else correlation(given, answered),
            "spearmanr": 0.0 if constant else correlation(ranks(given), ranks(answered)),
            "mae": float(abs(given - answered).mean()),
            "rmse": float(((given - answered) ** 2).mean() ** 0.5),
        }


def scaling_of(numbers: list[float], label: str) -> tuple[float, float]:
    """Mean and standard deviation; DataError where there is nothing to learn or no number holds it."""
    mean = math.fsum(number / len(numbers) for number in numbers)
    scale = math.hypot(*(number - mean for number in numbers)) / math.sqrt(len(numbers))
    if min(numbers) == max(numbers):
        raise DataError(
            f"task.label={label}: {numbers[0]:g} in all {len(numbers)} training rows; nothing to learn"
        )
    if not 0 < scale < math.inf:
        raise DataError(f"task.label={label}: from {min(numbers):g} to {max(numbers):g}; rescale the column")
    return mean, scale


def correlation(one: ndarray, other: ndarray) -> float:
    """Pearson's."""
    import numpy

    return float(numpy.corrcoef(one, other)[0, 1])


def ranks(values: ndarray) -> ndarray:
    """From 1; equal numbers share the mean of theirs, as in Spearman's correlation."""
    import numpy

    _, inverse, counts = numpy.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]
