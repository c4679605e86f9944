"""A batch's tensors: which there are, and on which device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ftrun.models.device import onto

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ftrun.tasks.dataset import Batch


def placed(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device."""
    return batch if device.type == "cpu" else each(batch, lambda value: onto(value, device))


def copied(batch: Batch) -> Batch:
    """The same batch in tensors of its own."""
    return each(batch, lambda value: value.clone())


def tensors_of(batch: Batch) -> list[tuple[str, Tensor]]:
    """The tensors of a batch by name, those of its inputs first."""
    from torch import Tensor

    both = [*batch["inputs"].items(), *batch.items()]
    return [(name, value) for name, value in both if isinstance(value, Tensor)]


def each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor changed."""
    from torch import Tensor

    inputs = {name: change(value) for name, value in batch["inputs"].items()}
    others = {
        name: change(value) if isinstance(value, Tensor) else value
        for name, value in batch.items()
        if name != "inputs"
    }
    return {"inputs": inputs, **others}
