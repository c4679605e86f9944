"""How strong a hold is to be: the factor of a quadratic pull, found before the first step. The rule is ours.

A weight that drifts evenly, by an amount proportional to the learning rate in every step, and is pulled back
with strength s after each, ends at g(s·L) of where it would be without the pull, g(x) = (1 − exp(−x)) / x,
where L is the sum of all learning rates. Harm to what the network knew is Σ sᵢ Δᵢ² in the quadratic
approximation whose curvature the strengths are. Under Adam, which moves every weight at about one speed, the
share of it that a factor f leaves is Σ sᵢ g(f sᵢ L)² / Σ sᵢ. A pull that is a gradient is divided by Adam as
the loss's is, so that L is a weight's own: the sum of the learning rates over the size of its gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 60  # of halving the interval, which spans 2 · WIDE powers of e
WIDE = 80.0


def left_of_harm(strengths: Tensor, rates: Tensor | float, factor: float = 1.0) -> float:
    """The share of the harm of an even drift that `factor` times these strengths leaves; rates are summed."""
    import torch

    move = factor * rates * strengths
    kept = torch.where(move > 0, -torch.expm1(-move) / move.clamp_min(1e-300), 1.0)
    return float((strengths * kept**2).sum() / strengths.sum())


def that_leaves(share: float, strengths: Tensor, rates: Tensor | float) -> float:
    """The factor of the strengths at which `share` of the harm is left; 0 where nothing can be harmed."""
    import math

    total = float((strengths * rates).sum())
    if not total > 0:
        return 0.0
    middle = -math.log(total / len(strengths))
    low, high = middle - WIDE, middle + WIDE
    for _ in range(ROUNDS):
        half = (low + high) / 2
        enough = left_of_harm(strengths, rates, math.exp(half)) <= share
        low, high = (low, half) if enough else (half, high)
    return math.exp(high)
