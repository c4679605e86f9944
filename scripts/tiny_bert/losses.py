"""What the small network learns: the larger one's vectors, and that two texts of a pair belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURE = 0.05
ALIKE = 0.8  # likeness to the teacher from which a text is no example of another meaning


def mean_of(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens, (batch, width), of states (batch, length, width)."""
    weights = mask.unsqueeze(-1).float()
    return (states.float() * weights).sum(1) / weights.sum(1)


def distillation_loss(found: Tensor, target: Tensor) -> Tensor:
    """Distance from the teacher's vectors, and from its likenesses in the batch; both (batch, teacher)."""
    cosine = 1 - (found * target).sum(-1).mean()
    own = torch.eye(len(found), dtype=torch.bool, device=found.device)
    wanted = (target @ target.T / TEMPERATURE).masked_fill(own, -1e4).softmax(-1)
    likeness = (found @ found.T / TEMPERATURE).masked_fill(own, -1e4).log_softmax(-1)
    return 4 * cosine + functional.kl_div(likeness, wanted, reduction="batchmean")


def contrastive_loss(found: Tensor, target: Tensor, files: Tensor) -> Tensor:
    """InfoNCE both ways between the first half of the batch and the second, whose rows are pairs.

    Texts of one file and those that the teacher finds alike are not told apart.
    """
    one, other = found.chunk(2)
    known = [half.chunk(2) for half in (target, files)]
    alike = (known[0][0] @ known[0][1].T > ALIKE) | (known[1][0][:, None] == known[1][1][None])
    answer = torch.arange(len(one), device=found.device)
    own = torch.eye(len(one), dtype=torch.bool, device=found.device)
    likeness = (one @ other.T / TEMPERATURE).masked_fill(alike & ~own, -1e4)
    return (functional.cross_entropy(likeness, answer) + functional.cross_entropy(likeness.T, answer)) / 2
