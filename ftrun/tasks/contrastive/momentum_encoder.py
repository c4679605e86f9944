"""The queue of keys and the momentum encoder that computes them (He et al. 2020, MoCo)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from ftrun.models.model import Model


class Queue:
    """The newest keys, each of norm 1, in a ring buffer; at first they are random."""

    def __init__(self, size: int, width: int, seed: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.keys = normalize(torch.randn(size, width, generator=generator), dim=1).to(device)
        self.pointer = torch.zeros((), dtype=torch.long)  # position of the next key

    def push(self, keys: Tensor) -> None:
        """Replace the oldest keys by keys (count, width), of any count."""
        size, end = len(self.keys), int(self.pointer) + len(keys)
        keys = keys[-size:].to(self.keys.dtype)
        begin = (end - len(keys)) % size
        first = keys[: size - begin]  # up to the end of the buffer
        self.keys[begin : begin + len(first)] = first
        self.keys[: len(keys) - len(first)] = keys[len(first) :]
        self.pointer.fill_(end % size)


class Follower(nn.Module):
    """The key encoder: a moving average of the trained weights, in fp32, and running statistics of its own.

    Frozen weights are shared with the model. Statistics of batch normalisation are not averaged: the key
    encoder collects its own from its batches, and in training normalises by the batch. Its weights and
    statistics are buffers with the names that they have in the model.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = [model]  # in a list, so that it is not a submodule
        self.followed: dict[str, nn.Parameter] = model.trained()
        self.weights = {name: value.detach().float().clone() for name, value in self.followed.items()}
        self.statistics = {name: value.clone() for name, value in model.named_buffers()}
        for name, value in self.state().items():
            keep(self, name, value)

    def state(self) -> dict[str, Tensor]:
        """Its weights and statistics, by their names in the model."""
        return self.weights | self.statistics

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """k ← momentum·k + (1 - momentum)·q for every trained weight q."""
        for name, value in self.followed.items():
            self.weights[name].mul_(momentum).add_(value, alpha=1 - momentum)

    @torch.no_grad()
    def outputs(self, pixels: Tensor) -> Tensor:
        """The outputs of the key encoder for pixels."""
        from torch.func import functional_call

        return functional_call(self.network[0], self.state(), (), {"pixel_values": pixels})


def keep(module: nn.Module, name: str, value: Tensor) -> None:
    """Register a buffer under a dotted name, in container modules."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    module.register_buffer(leaf, value)
