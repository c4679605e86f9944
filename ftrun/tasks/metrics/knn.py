"""Weighted k-nearest-neighbour classification of features (Wu et al. 2018), and its accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.settings.checks import natural_order
from ftrun.tasks.metrics.metric import Metric, named

if TYPE_CHECKING:
    from torch import Tensor

METRICS = named(Metric("knn_accuracy", "max", "%"))
TEMPERATURE = 0.07  # of the votes (Wu et al. 2018)
CHUNK = 1024  # images compared with the bank at once


@dataclass
class Bank:
    """Features of labelled images, with the row of its split of each."""

    features: Tensor  # (images, width)
    labels: list[str]
    rows: list[int]

    def answers(
        self, features: Tensor, neighbours: int, rows: Sequence[int | None]
    ) -> tuple[list[str], list[float]]:
        """Winning labels and their shares of the votes; `rows` are the images' rows in the bank's split."""
        import torch

        names = sorted(set(self.labels), key=natural_order)
        places = {row: n for n, row in enumerate(self.rows)}
        labels = torch.tensor([names.index(label) for label in self.labels])
        itself = [-1 if row is None else places.get(row, -1) for row in rows]
        shares = votes(features, self.features, labels, len(names), neighbours, itself)
        highest, best = shares.max(1)
        return [names[place] for place in best.tolist()], highest.tolist()


def votes(
    features: Tensor, bank: Tensor, labels: Tensor, classes: int, neighbours: int, itself: Sequence[int]
) -> Tensor:
    """The share of the vote that each class gets for each image, (images, classes).

    Each of the nearest in the bank, by cosine, votes with the weight exp(cosine / 0.07); a smaller bank
    votes as a whole. `itself` is an image's own place in the bank, which does not vote, or -1.
    """
    import torch
    from torch.nn.functional import normalize, one_hot

    features, bank = normalize(features.float(), dim=1), normalize(bank.float(), dim=1)
    own, found = torch.tensor(itself), []
    for start in range(0, len(features), CHUNK):
        near = features[start : start + CHUNK] @ bank.T
        mine = own[start : start + CHUNK]
        rows = (mine >= 0).nonzero().squeeze(1)
        near[rows, mine[rows]] = -torch.inf
        cosines, places = near.topk(min(neighbours, len(bank)), dim=1)
        weights = (cosines / TEMPERATURE).softmax(1).unsqueeze(2)  # the vote's shares; no overflow
        found.append((weights * one_hot(labels[places], classes)).sum(1))
    return torch.cat(found)
