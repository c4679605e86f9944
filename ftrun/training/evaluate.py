"""Scoring a network on a split: batches go by, only answers and sums are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ftrun.data.batching import sorted_batches
from ftrun.tasks.base import Answer, Batch, Example, Task

if TYPE_CHECKING:
    from accelerate import Accelerator

Answered = tuple[Example, Answer]  # an example of a row, and the row's answer


def outputs_of(model: nn.Module, task: Task, batch: Batch) -> Any:
    """The network's output for a batch, on the device where its weights are."""
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
    return model(**task.seen(inputs, batch, model.training))


def evaluate(
    model: nn.Module, task: Task, examples: Sequence[Example], size: int, accelerator: Accelerator
) -> tuple[dict[str, float], list[Answered]]:
    """Every metric of the task, and each row's answer in their order; all processes share the work."""
    if bank := task.bank(examples):
        task.recall(predict(model, task, bank, size, accelerator))
    total, count = 0.0, 0
    answers: list[tuple[int, Answer]] = []
    for outputs, batch, rows in batches_through(model, task, examples, size, accelerator):
        loss, targets = task.loss(outputs, batch)
        total, count = total + float(loss), count + targets
        answers += zip(rows, task.answers(outputs, batch), strict=True)
    sums = gathered([(total, count)], accelerator)
    mean = sum(t for t, _ in sums) / sum(c for _, c in sums)
    found, rows_of = task.merged(ordered(answers, accelerator), examples)
    return {"loss": mean, **task.score(found, rows_of)}, [*zip(rows_of, found, strict=True)]


def predict(
    model: nn.Module, task: Task, examples: Sequence[Example], size: int, accelerator: Accelerator
) -> list[Answered]:
    """Each row's answer in the order of the examples, which need no targets."""
    answers: list[tuple[int, Answer]] = []
    for outputs, batch, rows in batches_through(model, task, examples, size, accelerator):
        answers += zip(rows, task.answers(outputs, batch), strict=True)
    found, rows_of = task.merged(ordered(answers, accelerator), examples)
    return [*zip(rows_of, found, strict=True)]


@torch.no_grad()
def batches_through(
    model: nn.Module, task: Task, examples: Sequence[Example], size: int, accelerator: Accelerator
) -> Iterator[tuple[Any, Batch, list[int]]]:
    """Outputs, batch and rows of this process's share; a batch that does not fit is halved."""
    was_training = model.training
    model.eval()
    batches = sorted_batches([e.size for e in examples], task.rows_at_once(size))
    pending = batches[accelerator.process_index :: accelerator.num_processes]
    while pending:
        rows = pending.pop(0)
        batch = task.collate([examples[row] for row in rows])
        try:
            outputs = outputs_of(model, task, batch)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            torch.cuda.empty_cache()
            pending[:0] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        else:
            yield outputs, batch, rows
    model.train(was_training)


def gathered(values: list[Any], accelerator: Accelerator) -> list[Any]:
    """The lists of all processes as one."""
    if accelerator.num_processes == 1:
        return values
    from accelerate.utils import gather_object

    return gather_object(values)


def ordered(answers: list[tuple[int, Answer]], accelerator: Accelerator) -> list[Answer]:
    return [answer for _, answer in sorted(gathered(answers, accelerator), key=lambda pair: pair[0])]
