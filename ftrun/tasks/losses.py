"""Losses as sums and counts, so that micro-batches and processes change nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.tasks.dataset import Batch

IGNORED = -100  # the label of what is not learned


@dataclass
class Loss:
    """A loss summed in fp32, and the number of targets it sums over, or the sum of their weights.

    `parts`, name → sum and count, are logged apart.
    """

    sum: Tensor
    count: float
    parts: dict[str, tuple[Tensor, int]] = field(default_factory=dict)


def cross_entropy(outputs: Tensor, batch: Batch) -> Loss:
    """Of one class for each example; outputs are (batch, classes)."""
    return Loss(summed_cross_entropy(outputs, batch["labels"]), len(batch["labels"]))


def summed_cross_entropy(outputs: Tensor, targets: list[int], weights: list[float] | None = None) -> Tensor:
    """Summed over the examples, each by the weight of its class where there are weights."""
    import torch

    given = None if weights is None else torch.tensor(weights, device=outputs.device)
    labels = torch.tensor(targets, device=outputs.device)
    return torch.nn.functional.cross_entropy(outputs.float(), labels, weight=given, reduction="sum")


def summed_over_places(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in fp32 over the last dimension of the logits, summed over the labels not ignored."""
    import torch

    flat, targets = logits.float().flatten(0, -2), labels.to(logits.device).flatten()
    return torch.nn.functional.cross_entropy(flat, targets, ignore_index=IGNORED, reduction="sum")


def squared_error(outputs: Tensor, batch: Batch) -> Loss:
    """Of one number for each example; outputs are (batch, 1)."""
    import torch

    labels = torch.tensor(batch["labels"], device=outputs.device)
    total = torch.nn.functional.mse_loss(outputs[:, 0].float(), labels, reduction="sum")
    return Loss(total, len(labels))


def binary_cross_entropy(outputs: Tensor, batch: Batch) -> Loss:
    """Over examples and labels, (batch, labels); its mean is transformers' own multi-label loss."""
    import torch

    labels = torch.tensor(batch["labels"], device=outputs.device)
    total = torch.nn.functional.binary_cross_entropy_with_logits(outputs.float(), labels, reduction="sum")
    return Loss(total, labels.numel())


def examples_in(batch: Batch) -> float:
    """One target for each example."""
    return len(batch["labels"])


def positions_in(batch: Batch) -> Any:
    """One target for each chosen position."""
    return int(batch["inputs"]["positions"].sum())
