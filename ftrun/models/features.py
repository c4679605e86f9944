"""What a network makes of its inputs: one vector for each, from its top layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ftrun.models.model import Model


@torch.no_grad()
def top_features(model: Model, batches: Iterable[dict[str, Tensor]]) -> Tensor:
    """The mean of the last layer over the tokens, or the places of an image, of each example.

    (examples, width), on the CPU, in evaluation mode; the model is left as it was.
    """
    kept: list[Any] = []
    handle = model.layers()[-1].register_forward_hook(lambda _m, _i, output: kept.append(output))
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    found = []
    try:
        for inputs in batches:
            moved = {name: value.to(device) for name, value in inputs.items()}
            model(**moved)
            output = kept.pop()
            states = (output[0] if isinstance(output, tuple) else output).float()
            found.append(mean_of(states, moved.get("attention_mask")).cpu())
    finally:
        handle.remove()
        model.train(was_training)
    return torch.cat(found)


def mean_of(states: Tensor, mask: Tensor | None) -> Tensor:
    """(batch, tokens, width) over the tokens of the mask, (batch, width, height, width) over the places."""
    if states.ndim > 3:
        return states.flatten(2).mean(2)
    if states.ndim < 3:
        return states
    if mask is None:
        return states.mean(1)
    weights = mask.unsqueeze(-1).to(states)
    return (states * weights).sum(1) / weights.sum(1)
