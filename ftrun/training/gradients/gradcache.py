"""The exact gradient of a loss that couples the examples of a batch, in parts (Gao et al. 2021, GradCache).

Gradient accumulation over the parts would compare each example only with those of its own part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ftrun.models.model import put_back


def coupled_backward(
    forward: Callable[[int], Tensor],
    backward: Callable[[int, Tensor], None],
    loss_of: Callable[[Tensor], Tensor],
    parts: int,
    weight: float | Tensor,
    statistics: Iterable[Tensor],
) -> Tensor:
    """Backward of the loss over all parts, times `weight`; returns the loss without that weight.

    `forward` returns the outputs of a part, the same each time; `backward` takes the number of a part and
    the gradient of its outputs. First all outputs are computed without a graph, then the loss and its
    gradient with respect to the outputs; in a second pass each part propagates its share of that gradient
    to the weights. The `statistics` of batch normalisation are updated in the second pass only.
    """
    with torch.no_grad(), put_back(list(statistics)):
        outputs = [forward(number) for number in range(parts)]
    whole = torch.cat(outputs).requires_grad_()
    loss = loss_of(whole)
    (gradient,) = torch.autograd.grad(loss * weight, whole)
    shares = gradient.split([len(output) for output in outputs])
    for number, share in enumerate(shares):
        backward(number, share)
    return loss.detach().double()
