"""Does contrastive learning go well? Pairs near, others apart, nothing collapsed, no spikes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ftrun.tasks.contrastive.losses import ntxent


def figures(first: Tensor, second: Tensor) -> dict[str, float]:
    """Of pairs of embeddings, both (pictures, width): how near pairs and others are, by cosine.

    Alignment is the mean squared distance of a pair, uniformity log mean exp(-2·squared distance) of others
    (Wang & Isola 2020, α = 2, t = 2). Contrastive accuracy is how often a view is nearest to its own pair.
    """
    pairs = normalize(torch.stack([first, second], 1).float(), dim=-1)
    views = pairs.flatten(0, 1)
    near = views @ views.T
    rows = torch.arange(len(views), device=views.device)
    own = near[rows, rows ^ 1]
    picture = rows // 2
    others = near[picture[:, None] != picture[None, :]]
    found = {"positive_similarity": float(own.mean()), "alignment": float((2 - 2 * own).mean())}
    if len(others):
        near[rows, rows] = -torch.inf
        distances = (2 - 2 * others).clamp(min=0)
        found |= {
            "negative_similarity": float(others.mean()),
            "uniformity": float((-2 * distances).exp().mean().log()),
            "contrastive_accuracy": float((near.argmax(1) == rows ^ 1).float().mean()),
        }
    return found


def effective_rank(embeddings: Tensor) -> float:
    """exp of the entropy of the singular values' shares (Roy & Vetterli 2007), of embeddings of length 1.

    It is 1 where all are equal, at most their width, and not a number where one of them is none.
    """
    rows = normalize(embeddings.double(), dim=-1)
    if not rows.isfinite().all():
        return math.nan
    values = torch.linalg.eigvalsh(rows.T @ rows).clamp(min=0).sqrt()
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def scores_of(views: Tensor, batch: int, tau: float) -> dict[str, float]:
    """NT-Xent and the figures of a split's embeddings (pictures, 2, width): means over batches of one size.

    The pictures are in a random order that is always the same; what is left of the last batch is left out.
    """
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0))
    batch = min(batch, len(views))
    parts = [views[order[i : i + batch]] for i in range(0, len(views) - batch + 1, batch)]
    found = [
        {"loss": float(ntxent(part, part, 0, tau)) / (2 * batch), **figures(part[:, 0], part[:, 1])}
        for part in parts
    ]
    means = {name: sum(each[name] for each in found) / len(found) for name in found[0]}
    return means | {"effective_rank": effective_rank(views.flatten(0, 1))}
