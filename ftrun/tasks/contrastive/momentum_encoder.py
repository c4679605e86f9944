"""The queue of keys and the slow copy of the network that makes them (He et al. 2020, MoCo)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from ftrun.models.model import Model


class Queue:
    """The newest keys, each of length 1, in a ring; it begins with random ones."""

    def __init__(self, size: int, width: int, seed: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.keys = normalize(torch.randn(size, width, generator=generator), dim=1).to(device)
        self.pointer = torch.zeros((), dtype=torch.long)  # where the next key goes

    def push(self, keys: Tensor) -> None:
        """Put keys (count, width) in the place of the oldest; any count goes, also around the end."""
        size = len(self.keys)
        places = (int(self.pointer) + torch.arange(len(keys))) % size
        newest = slice(max(0, len(keys) - size), None)
        self.keys[places[newest].to(self.keys.device)] = keys[newest].to(self.keys.dtype)
        self.pointer.fill_((int(self.pointer) + len(keys)) % size)


class Follower:
    """The key encoder: weights that trail the trained ones, in fp32, and running statistics of its own.

    What is frozen is shared with the network. Statistics of batch normalisation are not averaged: the key
    encoder gathers its own from the batches that it sees, and in training normalises by the batch.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.parameters: dict[str, nn.Parameter] = model.trained()
        self.weights = {name: value.detach().float().clone() for name, value in self.parameters.items()}
        self.statistics = {name: value.clone() for name, value in model.named_buffers()}

    def state(self) -> dict[str, Tensor]:
        """What changes of it, by the names in the network."""
        return self.weights | self.statistics

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """k ← momentum·k + (1 - momentum)·q for every trained weight q."""
        for name, value in self.parameters.items():
            self.weights[name].mul_(momentum).add_(value, alpha=1 - momentum)

    @torch.no_grad()
    def outputs(self, pixels: Tensor) -> Tensor:
        """What the slow network makes of pixels."""
        from torch.func import functional_call

        return functional_call(self.model, self.state(), (), {"pixel_values": pixels})
