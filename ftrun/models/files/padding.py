"""A padding token's row that is zero to whoever reads a network, whatever was trained."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ftrun.models.files.sharing import READ


def keep_emptied(net: Any) -> None:
    """Have no gradient reach the padding token's row where transformers empties it whenever it reads `net`.

    An embedding gives that row no gradient, but a head that shares the tensor does: the row would be trained,
    and its token's logit be another one after reading. So it is with Funnel, whose initialisation takes a
    part of what was read for something that was not.
    """
    tokens, head = net.get_input_embeddings(), net.get_output_embeddings()
    row = getattr(tokens, "padding_idx", None)
    tied = row is not None and id(getattr(head, "weight", None)) == id(tokens.weight)
    if not tied or not tokens.weight.requires_grad or not emptied(net, tokens):
        return

    def without_row(gradient: Tensor) -> Tensor:
        rest = gradient.clone()
        rest[row] = 0
        return rest

    tokens.weight.register_hook(without_row)


@torch.no_grad()
def emptied(net: Any, tokens: nn.Embedding) -> bool:
    """Whether initialisation, of what is read and of what is not alike, sets the row to zero.

    Tried on a copy without weights of the module that has the embedding, with a small one in its place.
    """
    owner, name = next(
        (module, name) for module in net.modules() for name, each in module.named_children() if each is tokens
    )
    with torch.random.fork_rng():
        small = nn.Embedding(int(tokens.padding_idx or 0) + 1, 1, padding_idx=tokens.padding_idx)
    small.weight.fill_(1)
    setattr(small.weight, READ, True)
    known: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in owner.parameters()
    }
    own = copy.deepcopy(owner, known | {id(tokens): small})
    assert getattr(own, name) is small
    with torch.random.fork_rng():
        for module in (small, own):
            net._init_weights(module)
    return not small.weight[tokens.padding_idx].any()
