"""What is minimised: from a network's outputs to a loss, and what must be kept between steps for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from ftrun.models.device import onto
from ftrun.tasks.losses import Loss, examples_in

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.tasks.dataset import Batch


class Objective(nn.Module):
    """A loss of outputs and batch, and how many targets a batch has.

    `training` says whether a step is being taken or an evaluation made. What an objective keeps besides the
    network are buffers, which are part of every checkpoint.

    It is capturable where its loss is made of tensors of outputs and batch alone, whatever the step: then a
    CUDA graph of one step is right in every other. A class says so of itself: `class Own(Objective,
    capturable=True)`.
    """

    _capturable: ClassVar[bool] = True

    def __init_subclass__(cls, capturable: bool = False, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._capturable = capturable

    def __init__(
        self, loss: Callable[[Any, Batch], Loss], targets: Callable[[Batch], float] = examples_in
    ) -> None:
        super().__init__()
        self._loss, self._targets = loss, targets

    def setup(self, model: Model, accelerator: Accelerator) -> None:
        """See the network as it will be trained, on its device, before the first step and when resuming."""

    def count(self, batches: Sequence[Batch]) -> float:
        """What the summed loss of all batches of a step is divided by; called once before each step."""
        return sum(map(self._summed_over, batches))

    def _summed_over(self, batch: Batch) -> float:
        return self._targets(batch)

    def inputs(self, inputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """What the network takes by name, made of the batch's inputs once these are on its device."""
        return inputs

    def loss(self, outputs: Any, batch: Batch) -> Loss:
        """The loss of one batch's outputs."""
        return self._loss(outputs, batch)

    def after_step(self, grad_norm: float) -> None:
        """An optimizer step was taken; `grad_norm` is that before clipping. Raises Diverged."""

    def figures(self) -> dict[str, float]:
        """What of the last step is logged beside loss, rate and gradient norm."""
        return {}


class Weighted(Objective, capturable=True):
    """One loss in training, another in evaluation: that of weighted classes is not what is scored."""

    def __init__(self, training: Objective, evaluation: Objective) -> None:
        super().__init__(evaluation.loss)
        self.both = {True: training, False: evaluation}

    def _summed_over(self, batch: Batch) -> float:
        return self.both[self.training]._summed_over(batch)

    def loss(self, outputs: Any, batch: Batch) -> Loss:
        return self.both[self.training].loss(outputs, batch)


class Coupled(Objective):
    """An objective whose loss of one example depends on the others of its batch."""


def acts_after_step(objective: Objective) -> bool:
    """Whether it overrides `after_step`; if not, the loop need not know at once that a step was taken."""
    return type(objective).after_step is not Objective.after_step


def count_of_rows(objective: Objective, rows: int) -> float | None:
    """What `count` says of batches of so many rows, if it follows from their number alone."""
    own = objective.both[objective.training] if isinstance(objective, Weighted) else objective
    return float(rows) if own._targets is examples_in else None


def outputs_of(model: nn.Module, objective: Objective, batch: Batch) -> Any:
    """The network's output for a batch, on the device where its weights are; of windows, joined by row."""
    device = next(model.parameters()).device
    inputs = {name: onto(value, device) for name, value in batch["inputs"].items()}
    # kept features, in the place of the network's frozen part
    with batch["given"](batch) if "given" in batch else nullcontext():
        return joined(model(**objective.inputs(inputs, batch)), batch)


def joined(outputs: Any, batch: Batch) -> Any:
    """What a batch's rows come to, of which some may be in several windows."""
    return batch["windows"](outputs) if "windows" in batch else outputs


def targets_of(objective: Objective, batch: Batch) -> float:
    """What the summed loss of one batch is a sum over: its targets, or their weights."""
    return objective._summed_over(batch)


def is_capturable(objective: Objective) -> bool:
    """Whether a CUDA graph of its loss in one step is right in every other."""
    return objective._capturable
