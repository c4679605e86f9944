"""Contrastive losses: NT-Xent, and InfoNCE on a queue.

Both are computed in fp32, whatever the precision of the model; excluded pairs have the logit -inf.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def ntxent(own: Tensor, everyone: Tensor, first: int, tau: float) -> Tensor:
    """The summed loss of the views of some images among those of all, both (images, 2, width), of any norm.

    `own` are the images of `everyone` from `first` on. The positive of a view is the other view of its image,
    among all 2N - 1 other views (Chen et al. 2020, equation 1, without its mean over 2N views).
    """
    with torch.autocast(own.device.type, enabled=False):
        views, others = (normalize(each.float(), dim=-1).flatten(0, 1) for each in (own, everyone))
        logits = views @ others.T / tau  # (2·images of own, 2·images of everyone)
        rows = torch.arange(len(views), device=views.device)
        itself = torch.zeros_like(logits, dtype=torch.bool)
        itself[rows, 2 * first + rows] = True
        pair = 2 * first + (rows ^ 1)  # the views of an image are adjacent
        return cross_entropy(logits.masked_fill(itself, -torch.inf), pair, reduction="sum")


def against_queue(queries: Tensor, keys: Tensor, queue: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """The summed loss of queries against their own keys and the queue, and the cosines.

    He et al. 2020, equation 1. Queries, keys and queue have norm 1; the cosines, (queries, 1 + queue),
    have the own key in the first column and no gradient.
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = queries.float(), keys.float()
        own = (queries * keys).sum(-1, keepdim=True)
        cosines = torch.cat([own, queries @ queue.T], 1)
        first = torch.zeros(len(cosines), dtype=torch.long, device=cosines.device)
        return cross_entropy(cosines / tau, first, reduction="sum"), cosines.detach()
