"""Losses as sums and counts, so that micro-batches and processes change nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftrun.models.device import onto

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.tasks.dataset import Batch

IGNORED = -100  # the label of what is not learned


@dataclass
class Loss:
    """A loss summed in fp32; over how many targets, or weights of targets, says `targets_of`.

    `parts`, name → sum and count, are logged apart.
    """

    sum: Tensor
    parts: dict[str, tuple[Tensor, int]] = field(default_factory=dict)


def cross_entropy(outputs: Tensor, batch: Batch) -> Loss:
    """Of one class for each example; outputs are (batch, classes)."""
    return Loss(summed_cross_entropy(outputs, batch["labels"]))


def summed_cross_entropy(outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Summed over the examples, each by the weight of its class where there are weights."""
    import torch

    targets = onto(labels, outputs.device)
    return torch.nn.functional.cross_entropy(outputs.float(), targets, weight=weights, reduction="sum")


def summed_over_places(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in fp32 over the last dimension of the logits, summed over the labels not ignored."""
    import torch

    flat, targets = logits.float().flatten(0, -2), onto(labels, logits.device).flatten()
    return torch.nn.functional.cross_entropy(flat, targets, ignore_index=IGNORED, reduction="sum")


def squared_error(outputs: Tensor, batch: Batch) -> Loss:
    """Of one number for each example; outputs are (batch, 1)."""
    import torch

    labels = onto(batch["labels"], outputs.device, torch.float32)
    return Loss(torch.nn.functional.mse_loss(outputs[:, 0].float(), labels, reduction="sum"))


def binary_cross_entropy(outputs: Tensor, batch: Batch) -> Loss:
    """Over examples and labels, (batch, labels); its mean is transformers' own multi-label loss."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    outputs = outputs.float()
    labels = onto(batch["labels"], outputs.device, outputs.dtype)
    return Loss(binary_cross_entropy_with_logits(outputs, labels, reduction="sum"))


def examples_in(batch: Batch) -> float:
    """One target for each example."""
    return len(batch["labels"])
