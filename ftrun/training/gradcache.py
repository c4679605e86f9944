"""The exact gradient of a loss that couples the examples of a batch, in parts (Gao et al. 2021, GradCache).

Accumulating the losses of the parts would compare each example with those of its own part alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ftrun.models.model import put_back
from ftrun.settings.seeds import stream
from ftrun.training.evaluate import outputs_of

if TYPE_CHECKING:
    from ftrun.tasks.base import Batch
    from ftrun.training.step import Stepper


def coupled_backward(stepper: Stepper, batches: list[Batch], weight: float) -> torch.Tensor:
    """Backward of the loss of all batches as one, times `weight`; returns the loss without it.

    All outputs are computed without a graph; then the loss and its gradient for each output; then each part
    again, with the same dropout, to pass its share of that gradient on to the weights. Running statistics of
    batch normalisation move in this second pass alone.
    """
    task = stepper.task
    norms = [buffer for module in stepper.model.batch_norms() for buffer in module.buffers()]
    with torch.no_grad(), put_back(norms):
        parts = [output(stepper, number, batch) for number, batch in enumerate(batches)]
    whole = torch.cat(parts).requires_grad_()
    loss = task.training_loss(whole, {"labels": [label for batch in batches for label in batch["labels"]]})
    (gradient,) = torch.autograd.grad(loss * weight, whole)
    shares = gradient.split([len(part) for part in parts])
    for number, (batch, share) in enumerate(zip(batches, shares, strict=True)):
        with stepper.syncing(number + 1 == len(batches)):
            stepper.accelerator.backward((output(stepper, number, batch) * share).sum())
    return loss.detach().double()


def output(stepper: Stepper, number: int, batch: Batch) -> torch.Tensor:
    place = (stepper.state.step, stepper.accelerator.process_index, number)
    torch.manual_seed(stream(stepper.settings.seed, "dropout", *place))
    return outputs_of(stepper.wrapped, stepper.task, batch)
