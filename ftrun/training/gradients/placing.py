"""A batch's tensors: which there are, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ftrun.tasks.dataset import Batch


def tensors_of(batch: Batch) -> list[tuple[str, Tensor]]:
    """The tensors of a batch by name, those of its inputs first."""
    both = [*batch["inputs"].items(), *batch.items()]
    return [(name, value) for name, value in both if isinstance(value, Tensor)]


def copied(batch: Batch) -> Batch:
    """The same batch in tensors of its own."""
    return each(batch, lambda value: value.clone())


def placed(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device, to which a GPU copies them while it goes on computing."""
    if device.type == "cpu":
        return batch
    pinned = device.type == "cuda"
    return each(batch, lambda value: (value.pin_memory() if pinned else value).to(device, non_blocking=True))


def each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor changed."""
    inputs = {name: change(value) for name, value in batch["inputs"].items()}
    others = {
        name: change(value) if isinstance(value, Tensor) else value
        for name, value in batch.items()
        if name != "inputs"
    }
    return {"inputs": inputs, **others}
