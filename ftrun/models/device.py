"""Tensors that go to the device where a network computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def onto(value: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor on a device; a GPU copies it from the host while both go on with their work.

    For that it must lie in pinned memory (PyTorch, "A guide on good usage of non_blocking and pin_memory()");
    otherwise the host waits for all that the GPU has been given before.
    """
    pinned = device.type == "cuda" and value.device.type == "cpu"
    return (value.pin_memory() if pinned else value).to(device, dtype, non_blocking=pinned)
