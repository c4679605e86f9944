"""What the last linear layer of a network reads: the features of which its logits are a linear function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ftrun.errors import ConfigError


@contextmanager
def recorded(net: nn.Module, classes: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """Inside, what is called with the latest logits (batch, classes) returns those features (batch, width).

    Of a layer that answers at every token they are those of the token whose answer the logits are. Raises
    ConfigError where no linear layer makes so many logits.
    """
    latest: list[tuple[Tensor, Tensor]] = []

    def keep(layer: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.shape[-1] == classes:
            latest[:] = [(given[0], output)]  # the last of them makes the logits

    def features(logits: Tensor) -> Tensor:
        if not latest:
            raise ConfigError(f"a {type(net).__name__} has no linear layer that makes its {classes} logits")
        read, made = (
            each.detach().float().flatten(1, -2) if each.ndim > 2 else each[:, None].detach().float()
            for each in latest[0]
        )
        place = (made - logits.detach().float()[:, None]).abs().sum(-1).argmin(1)
        return read[torch.arange(len(read), device=read.device), place]

    handles = [
        module.register_forward_hook(keep) for module in net.modules() if isinstance(module, nn.Linear)
    ]
    try:
        yield features
    finally:
        for handle in handles:
            handle.remove()
