"""Distillation: the pooled output learns a larger open encoder's sentence vectors, while MLM goes on.

The encoder is sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0); the projections are thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.random import Generator
    from torch import Tensor
    from transformers import BertForMaskedLM

VIEW = 64  # tokens of a docstring, for the teacher and for the student
BATCH = 64  # docstrings
TEMPERATURE = 0.05


class Projections(nn.Module):
    """From the pooler's and from the mean output to the teacher's width."""

    def __init__(self, width: int, teacher: int) -> None:
        super().__init__()
        self.pooled = nn.Linear(width, teacher)
        self.mean = nn.Linear(width, teacher)


def distillation_loss(
    projections: Projections, states: Tensor, pooled: Tensor, mask: Tensor, target: Tensor
) -> Tensor:
    """Distance from the teacher's vectors, and from its likenesses within the batch, for both outputs.

    states (batch, length, width); pooled (batch, width); mask (batch, length); target (batch, teacher).
    """
    weights = mask.unsqueeze(-1).to(states.dtype)
    mean = (states * weights).sum(1) / weights.sum(1)
    found = [projections.pooled(pooled), projections.mean(mean)]
    return sum((_distance(functional.normalize(each, dim=-1), target) for each in found), torch.zeros(()))


def _distance(found: Tensor, target: Tensor) -> Tensor:
    cosine = 1 - (found * target).sum(-1).mean()
    own = torch.eye(len(found), dtype=torch.bool)
    wanted = (target @ target.T / TEMPERATURE).masked_fill(own, -1e4).softmax(-1)
    likeness = (found @ found.T / TEMPERATURE).masked_fill(own, -1e4).log_softmax(-1)
    return 4 * cosine + functional.kl_div(likeness, wanted, reduction="batchmean")


def draw(lengths: np.ndarray, library: np.ndarray, share: float, random: Generator) -> np.ndarray:
    """Indices of one batch of similar lengths; `share` of it are the library's own training texts."""
    pool = np.concatenate(
        [
            random.choice(np.flatnonzero(library), int(8 * BATCH * share), replace=True),
            random.choice(np.flatnonzero(~library), 8 * BATCH - int(8 * BATCH * share), replace=True),
        ]
    )
    pool = pool[np.argsort(lengths[pool], kind="stable")]
    start = int(random.integers(8)) * BATCH
    return pool[start : start + BATCH]


def pad(rows: list[list[int]], special: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """[CLS] text [SEP], padded to the longest: token ids and attention mask, both (batch, length)."""
    padding, cls, sep = special
    whole = [[cls, *row[: VIEW - 2], sep] for row in rows]
    longest = max(map(len, whole))
    ids = torch.tensor([row + [padding] * (longest - len(row)) for row in whole])
    return ids, (ids != padding).long()


def warm_start(model: BertForMaskedLM, vectors: np.ndarray, spread: float = 0.05) -> None:
    """Word embeddings from the teacher's vectors of the words, reduced by their principal components."""
    left, values, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    width = model.config.hidden_size
    reduced = left[:, :width] * values[:width]
    model.bert.embeddings.word_embeddings.weight.data.copy_(
        torch.from_numpy(reduced / reduced.std() * spread)
    )
