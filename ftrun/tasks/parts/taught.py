"""Rows with a teacher's answers, and the loss that mixes them with the labels (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from ftrun.models.device import onto
from ftrun.tasks.dataset import Batch, Dataset, Draw, Example
from ftrun.tasks.losses import Loss
from ftrun.tasks.objective import Objective

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model

Apart = Callable[[Tensor, Tensor, float], Tensor]  # outputs of both (batch, outputs), temperature → (batch,)


def of_classes(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of the softmax at temperature T, (batch,).

    For T → ∞ its gradient is (z − z̄ − (t − t̄)) / classes, that of matching centred logits (section 2.1).
    """
    ours, theirs = (log_softmax(each / temperature, -1) for each in (student, teacher))
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum(-1)


def of_labels(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The same of each label's yes or no, summed over the labels, (batch,)."""
    total = student.new_zeros(len(student))
    for sign in (1, -1):
        ours, theirs = (logsigmoid(sign * each / temperature) for each in (student, teacher))
        total = total + (theirs.exp() * (theirs - ours)).sum(-1)
    return temperature**2 * total


def of_numbers(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The squared difference, (batch,); numbers have no temperature."""
    return ((student - teacher) ** 2).sum(-1)


class Answered(Dataset):
    """A split whose batches have the teacher's outputs, `teacher`, and the weight of each row in the loss."""

    def __init__(self, whole: Dataset, answers: Tensor, weights: Tensor) -> None:
        super().__init__(whole.examples, whole.summary)
        self.whole, self.answers, self.weights = whole, answers, weights
        self.places = {example.row: place for place, example in enumerate(whole.examples)}

    def epoch(self, seed: int, epoch: int) -> Sequence[int]:
        return self.whole.epoch(seed, epoch)

    def of(self, examples: Sequence[Example], multiple: int = 1) -> Dataset:
        other: Any = super().of(examples, multiple)
        other.whole = self.whole.of(examples, multiple)
        return other

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        at = [self.places[example.row] for example in examples]
        own = self.whole.collate(examples, draw)
        return own | {"teacher": self.answers[at], "teacher_weights": self.weights[at]}


class Taught(Objective):
    """In training (1 − share) · the task's loss + share · the distance to the teacher."""

    def __init__(self, own: Objective, apart: Apart, share: float, temperature: float) -> None:
        super().__init__(own.loss)
        self.own, self.apart, self.share, self.temperature = own, apart, share, temperature

    def setup(self, model: Model, accelerator: Accelerator) -> None:
        self.own.setup(model, accelerator)

    def _summed_over(self, batch: Batch) -> float:
        return self.own._summed_over(batch)

    def loss(self, outputs: Tensor, batch: Batch) -> Loss:
        labels = self.own.loss(outputs, batch)
        if not self.training:
            return labels
        theirs = onto(batch["teacher"], outputs.device)
        distance = self.apart(outputs.float(), theirs, self.temperature)
        found = (distance * onto(batch["teacher_weights"], outputs.device)).sum()
        rows = len(theirs)
        parts = {"label_loss": (labels.sum.detach(), rows), "teacher_loss": (found.detach(), rows)}
        return Loss((1 - self.share) * labels.sum + self.share * found, parts)
