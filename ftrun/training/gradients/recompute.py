"""Gradient checkpointing: each layer's activations are computed again on the way back (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from ftrun.models.model import Model


def refuse_batch_norms(model: Model) -> None:
    """ConfigError for a network whose layers would change what they keep when they are computed again."""
    if model.batch_norms():
        raise ConfigError(
            "train.checkpoint_layers=true computes each layer twice, and the batch normalisation of"
            f" {model.name} would count every batch twice; possible: false, or a smaller train.micro_batch"
        )


@contextmanager
def recomputing(model: Model) -> Iterator[None]:
    """Inside, a forward pass keeps only what goes into each layer; the same dropout is drawn again."""
    layers: list[Any] = model.layers()
    compiled = [layer._compiled_call_impl for layer in layers]  # what is compiled stays within
    for layer, call in zip(layers, compiled, strict=True):
        if call is None:
            layer.forward = partial(again, layer.forward)
        else:
            layer._compiled_call_impl = partial(again, call)
    try:
        yield
    finally:
        for layer, call in zip(layers, compiled, strict=True):
            layer._compiled_call_impl = call
            vars(layer).pop("forward", None)  # then that of its class


def again(forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """A layer's output, whose inner activations are forgotten until their gradient is wanted."""
    if not torch.is_grad_enabled():
        return forward(*given, **named)
    return checkpoint(forward, *given, use_reentrant=False, **named)
