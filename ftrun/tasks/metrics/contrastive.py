"""Metrics of contrastive learning: how near pairs are, how far others, and how many directions are used."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ftrun.tasks.metrics.metric import LOSS, Metric, named

if TYPE_CHECKING:
    from torch import Tensor

METRICS = named(
    LOSS,
    Metric("contrastive_accuracy", "max", "%"),
    Metric("positive_similarity", "max"),
    Metric("negative_similarity", "min"),
    Metric("alignment", "min"),
    Metric("uniformity", "min"),
    Metric("effective_rank", "max"),
)


def figures(first: Tensor, second: Tensor) -> dict[str, float]:
    """Of pairs of embeddings, both (images, width): how near pairs and others are, by cosine.

    Alignment is the mean squared distance of a pair, uniformity log mean exp(-2·squared distance) of others
    (Wang & Isola 2020, α = 2, t = 2). Contrastive accuracy is how often a view is nearest to its own pair.
    """
    import torch
    from torch.nn.functional import normalize

    pairs = normalize(torch.stack([first, second], 1).float(), dim=-1)
    views = pairs.flatten(0, 1)
    near = views @ views.T
    rows = torch.arange(len(views), device=views.device)
    own = near[rows, rows ^ 1]
    image = rows // 2
    others = near[image[:, None] != image[None, :]]
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
    import torch
    from torch.nn.functional import normalize

    rows = normalize(embeddings.double(), dim=-1)
    if not rows.isfinite().all():
        return math.nan
    values = torch.linalg.eigvalsh(rows.T @ rows).clamp(min=0).sqrt()
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def scores_of(views: Tensor, batch: int, tau: float) -> dict[str, float]:
    """NT-Xent and the figures of a split's embeddings (images, 2, width): means over batches of one size.

    The images are in a fixed random order; an incomplete last batch is left out.
    """
    import torch

    from ftrun.tasks.contrastive.losses import ntxent

    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0))
    batch = min(batch, len(views))
    parts = [views[order[i : i + batch]] for i in range(0, len(views) - batch + 1, batch)]
    found = [
        {"loss": float(ntxent(part, part, 0, tau)) / (2 * batch), **figures(part[:, 0], part[:, 1])}
        for part in parts
    ]
    means = {name: sum(each[name] for each in found) / len(found) for name in found[0]}
    return means | {"effective_rank": effective_rank(views.flatten(0, 1))}
