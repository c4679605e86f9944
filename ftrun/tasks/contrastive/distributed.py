"""Tensors gathered from all processes; with one process they stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

from ftrun.models.device import onto


def several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def place() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if several() else 0


def gathered(own: Tensor) -> Tensor:
    """The tensors of all processes, of equal length, concatenated; gradients flow back."""
    return Gather.apply(own) if several() else own


def in_turns(own: Tensor) -> Tensor:
    """The same without gradients, in the order of the batch, whose rows the processes take in turns."""
    if not several():
        return own.detach()
    parts = gathered(own.detach()).unflatten(0, (distributed.get_world_size(), len(own)))
    return parts.transpose(0, 1).flatten(0, 1)


class Gather(torch.autograd.Function):
    """all_gather; its gradient is the sum over processes of the gradients of this process's part."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        whole = gradient.contiguous().clone()
        distributed.all_reduce(whole)
        return whole.chunk(distributed.get_world_size())[distributed.get_rank()]


def on_shuffled(function: Callable[[Tensor], Tensor], own: Tensor, seed: int) -> Tensor:
    """The function's value for each row, computed with the rows shuffled among the processes."""
    if not several():
        return function(own)
    parts, whole = distributed.get_world_size(), gathered(own)
    order = onto(torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed)), own.device)
    made = gathered(function(whole[order].chunk(parts)[place()]))
    found = torch.empty_like(made)
    found[order] = made
    return found.chunk(parts)[place()]
