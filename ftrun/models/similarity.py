"""How far a network's features have moved: the same inputs before and now, layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ftrun.models.adapted.beside import Beside

if TYPE_CHECKING:
    from ftrun.models.model import Model

NEIGHBOURS = 10  # Huh et al. 2024
TOKENS_FIRST = ("xlnet",)  # whose layers give (tokens, examples, width)


@torch.no_grad()
def features(model: Model, batches: list[dict[str, Tensor]]) -> list[Tensor]:
    """The mean output of each layer for every example: per layer (examples, width), on the CPU."""
    kept: list[list[Tensor]] = [[] for _ in range(model.depth)]
    masks: list[Tensor | None] = [None]
    front = model.adapter.front if isinstance(model.adapter, Beside) else 0
    tokens_first = getattr(getattr(model.net, "config", None), "model_type", "") in TOKENS_FIRST

    def keep(layer: int, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if states.ndim == 3:
            states = states.transpose(0, 1) if tokens_first else states
            states = states[:, front:]
            weights = weights_of(states, masks[0])
            states = (states * weights).sum(1) / weights.sum(1)
        kept[layer].append(states.flatten(1).float().cpu())

    handles = [
        layer.register_forward_hook(lambda _m, _i, output, number=number: keep(number, output))
        for number, layer in enumerate(model.layers())
    ]
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        for inputs in batches:
            moved = {name: value.to(device) for name, value in inputs.items()}
            mask = moved.get("attention_mask")
            masks[0] = mask if mask is not None and mask.ndim == 2 else None  # else it keeps documents apart
            model(**moved)
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return [torch.cat(each) for each in kept]


def weights_of(states: Tensor, mask: Tensor | None) -> Tensor:
    """Which tokens count, (examples, tokens, 1): all where there is no mask for as many.

    Longformer pads what it is given to whole windows, which do not count; Funnel's layers pool tokens.
    """
    if mask is None or mask.shape[1] > states.shape[1]:
        return torch.ones_like(states[..., :1])
    padded = torch.nn.functional.pad(mask, (0, states.shape[1] - mask.shape[1]))
    return padded.unsqueeze(-1).to(states)


def drift(before: list[Tensor], now: list[Tensor]) -> list[dict[str, float]]:
    """For each layer what is left of the features before.

    Linear CKA (Kornblith et al. 2019), the share of nearest neighbours kept, and the mean cosine.
    """
    return [
        {
            "cka": linear_cka(old, new),
            "neighbours": neighbours_kept(old, new),
            "cosine": float(torch.nn.functional.cosine_similarity(old, new, dim=1).mean()),
        }
        for old, new in zip(before, now, strict=True)
    ]


def linear_cka(one: Tensor, other: Tensor) -> float:
    """|Y'X|² / (|X'X| |Y'Y|) of centred features (examples, width); 1 for a rotation or a scaling.

    Not a number where one of them is the same for every example. Features that are wider than there are
    examples, as those of images, are compared by |Y'X|² = <XX', YY'>.
    """
    x, y = (each.double() - each.double().mean(0) for each in (one, other))
    if max(x.shape[1], y.shape[1]) > len(x):
        x, y = x @ x.T, y @ y.T
        return float((x * y).sum() / (x.norm() * y.norm()))
    shared, own = (x.T @ y).norm() ** 2, (x.T @ x).norm() * (y.T @ y).norm()
    return float(shared / own)


def neighbours_kept(one: Tensor, other: Tensor) -> float:
    """The share of each example's 10 nearest others, by cosine, that both features (examples, width) have.

    The mutual k-nearest-neighbour alignment of Huh et al. (2024). Fewer examples have all others as their
    neighbours; without relation it is 10 / (examples - 1). Not a number for a single example, nor where one
    of them is the same for every example.
    """
    count = min(NEIGHBOURS, len(one) - 1)
    if count < 1 or any(bool((each == each[0]).all()) for each in (one, other)):
        return math.nan
    near = torch.zeros(2, len(one), len(one), dtype=torch.bool)
    for place, features in enumerate((one, other)):
        unit = torch.nn.functional.normalize(features.double(), dim=1)
        alike = (unit @ unit.T).fill_diagonal_(-math.inf)
        near[place].scatter_(1, alike.topk(count, dim=1).indices, value=True)
    return float(near.all(0).sum()) / (count * len(one))
