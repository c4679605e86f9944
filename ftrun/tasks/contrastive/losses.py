"""What brings two views of a picture together and keeps others away: NT-Xent, and InfoNCE on a queue.

All is computed in fp32, whatever the network's precision, and what may not be compared is -inf.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def ntxent(own: Tensor, everyone: Tensor, first: int, tau: float) -> Tensor:
    """The summed loss of some pictures' views among everyone's, both (pictures, 2, width), of any length.

    `own` stands in `everyone` from picture `first` on. Each view shall be nearest to the other of its picture
    among all other views, 2N - 1 of them (Chen et al. 2020, equation 1, without its mean over 2N views).
    """
    with torch.autocast(own.device.type, enabled=False):
        views, others = (normalize(each.float(), dim=-1).flatten(0, 1) for each in (own, everyone))
        logits = views @ others.T / tau  # (2·pictures of own, 2·pictures of everyone)
        rows = torch.arange(len(views), device=views.device)
        itself = torch.zeros_like(logits, dtype=torch.bool)
        itself[rows, 2 * first + rows] = True
        pair = 2 * first + (rows ^ 1)  # views of a picture stand side by side
        return cross_entropy(logits.masked_fill(itself, -torch.inf), pair, reduction="sum")


def against_queue(queries: Tensor, keys: Tensor, queue: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """The summed loss of queries against their own keys and the queue's, and the cosines of these.

    He et al. 2020, equation 1. Queries, keys and queue are of length 1; the cosines, (queries, 1 + queue),
    have the own key's in the first place and no gradient.
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = queries.float(), keys.float()
        own = (queries * keys).sum(-1, keepdim=True)
        cosines = torch.cat([own, queries @ queue.T], 1)
        first = torch.zeros(len(cosines), dtype=torch.long, device=cosines.device)
        return cross_entropy(cosines / tau, first, reduction="sum"), cosines.detach()
