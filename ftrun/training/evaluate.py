"""Evaluation of a model on a split, batch by batch; only answers and sums are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ftrun.data.batching import sorted_batches
from ftrun.tasks.objective import Coupled, outputs_of

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch, Dataset
    from ftrun.tasks.scorer import Answer, Row

SMALLEST = 32  # rows of an evaluation batch, which without gradients may exceed the micro-batch


def evaluate(
    model: nn.Module, data: TaskData, dataset: Dataset, size: int, accelerator: Accelerator
) -> tuple[dict[str, float], list[Row]]:
    """Every metric of the task, and the rows with their answers; all processes share the work."""
    reference = dataset.reference(data)
    known = [] if reference is None else predict(model, data, reference, size, accelerator)
    total, count = 0.0, 0.0
    answers: list[tuple[int, Answer]] = []
    for outputs, batch, places in batches_through(model, data, dataset, size, accelerator):
        loss = data.objective.loss(outputs, batch)
        total, count = total + float(loss.sum), count + loss.count
        answers += zip(places, data.scorer.answers(outputs, batch), strict=True)
    sums = gathered([(total, count)], accelerator)
    mean = sum(t for t, _ in sums) / sum(c for _, c in sums)
    rows = data.scorer.rows(ordered(answers, accelerator), dataset.examples, known)
    return {"loss": mean, **data.scorer.score(rows)}, rows


def predict(
    model: nn.Module, data: TaskData, dataset: Dataset, size: int, accelerator: Accelerator
) -> list[Row]:
    """The rows with their answers, in the order of the examples, which need no targets."""
    answers: list[tuple[int, Answer]] = []
    for outputs, batch, places in batches_through(model, data, dataset, size, accelerator):
        answers += zip(places, data.scorer.answers(outputs, batch), strict=True)
    return data.scorer.rows(ordered(answers, accelerator), dataset.examples)


@torch.no_grad()
def row_losses(model: nn.Module, data: TaskData, dataset: Dataset, most: int) -> list[float]:
    """The loss of each of at most `most` examples at equal distances, alone in its batch.

    Empty where an example has no loss of its own (contrastive learning).
    """
    objective = data.objective
    if isinstance(objective, Coupled):
        return []
    was_training, objective_trained = model.training, objective.training
    model.eval()
    objective.eval()
    found = []
    for place in range(0, len(dataset), -(-len(dataset) // most)):
        batch = dataset.collate([dataset[place]])
        loss = objective.loss(outputs_of(model, objective, batch), batch)
        found.append(float(loss.sum) / (loss.count or 1))
    model.train(was_training)
    objective.train(objective_trained)
    return found


@torch.no_grad()
def batches_through(
    model: nn.Module, data: TaskData, dataset: Dataset, size: int, accelerator: Accelerator
) -> Iterator[tuple[Any, Batch, list[int]]]:
    """Outputs, batches and places of this process's examples; a batch that exceeds the memory is halved."""
    was_training, objective = model.training, data.objective
    objective_trained = objective.training
    model.eval()
    objective.eval()
    batches = sorted_batches([example.size for example in dataset.examples], max(size, SMALLEST))
    pending = batches[accelerator.process_index :: accelerator.num_processes]
    while pending:
        places = pending.pop(0)
        batch = dataset.collate([dataset[place] for place in places])
        try:
            outputs = outputs_of(model, objective, batch)
        except torch.OutOfMemoryError:
            if len(places) == 1:
                raise
            torch.cuda.empty_cache()
            pending[:0] = [places[: len(places) // 2], places[len(places) // 2 :]]
        else:
            yield outputs, batch, places
    model.train(was_training)
    objective.train(objective_trained)


def gathered(values: list[Any], accelerator: Accelerator) -> list[Any]:
    """The lists of all processes, concatenated."""
    if accelerator.num_processes == 1:
        return values
    from accelerate.utils import gather_object

    found: list[Any] = gather_object(values)
    return found


def ordered(answers: list[tuple[int, Answer]], accelerator: Accelerator) -> list[Answer]:
    """The answers of all processes in the order of the examples."""
    return [answer for _, answer in sorted(gathered(answers, accelerator), key=lambda pair: pair[0])]
