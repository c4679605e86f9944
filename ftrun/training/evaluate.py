"""Evaluation of a model on a split, batch by batch; only answers and sums are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ftrun.data.batching import batches_by_tokens, sorted_batches
from ftrun.errors import OutOfMemory, out_of_memory, told
from ftrun.models.split import is_split
from ftrun.tasks.dataset import in_windows, sizes_of, windows_of
from ftrun.tasks.objective import Coupled, outputs_of, targets_of
from ftrun.training.devices import largest
from ftrun.training.late import beside, one_late

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch, Dataset
    from ftrun.tasks.scorer import Answer, Row
    from ftrun.training.kept.kept import Kept

SMALLEST = 32  # rows of an evaluation batch, which without gradients may exceed the micro-batch


def evaluate(
    model: nn.Module,
    data: TaskData,
    dataset: Dataset,
    size: int,
    accelerator: Accelerator,
    kept: Kept | None = None,
) -> tuple[dict[str, float], list[Row]]:
    """Every metric of the task, and the rows with their answers; all processes share the work."""
    reference = dataset.reference(data)
    known = [] if reference is None else predict(model, data, reference, size, accelerator)
    answers, total, count = answered(model, data, dataset, size, accelerator, kept=kept)
    sums = gathered([(total, count)], accelerator)
    mean = sum(t for t, _ in sums) / sum(c for _, c in sums)
    rows = data.scorer.rows(ordered(answers, accelerator), dataset.examples, known)
    return {"loss": mean, **data.scorer.score(rows)}, rows


def predict(
    model: nn.Module, data: TaskData, dataset: Dataset, size: int, accelerator: Accelerator
) -> list[Row]:
    """The rows with their answers, in the order of the examples, which need no targets."""
    answers, _, _ = answered(model, data, dataset, size, accelerator, with_loss=False)
    return data.scorer.rows(ordered(answers, accelerator), dataset.examples)


def answered(
    model: nn.Module,
    data: TaskData,
    dataset: Dataset,
    size: int,
    accelerator: Accelerator,
    with_loss: bool = True,
    kept: Kept | None = None,
) -> tuple[list[tuple[int, Answer]], float, float]:
    """This process's answers with their places, the summed loss and its count.

    A batch's answers are read when the next one is launched, so that a GPU goes on meanwhile. One whose
    answers exceed the memory is halved too; OutOfMemory where a single row does.
    """
    objective, device, total, count = data.objective, accelerator.device, 0.0, 0.0
    answers: list[tuple[int, Answer]] = []
    pending = batches_of(dataset, size, accelerator)
    spare = spare_passes(model, len(pending), accelerator)
    with evaluating(model, objective):
        while pending:  # also what comes back to it when the last batch was launched
            launches = launched(model, data, dataset, pending, accelerator, kept)
            for (outputs, batch, places), done in one_late(launches, device):
                try:
                    with beside(done, device):
                        loss = float(objective.loss(outputs, batch).sum) if with_loss else 0.0
                        found = data.scorer.answers(outputs, batch)
                except (RuntimeError, MemoryError, OSError) as error:
                    pending[:0] = halves(places, error, model)
                    continue
                total, count = total + loss, count + (targets_of(objective, batch) if with_loss else 0)
                answers += zip(places, found, strict=True)
        for _ in launched(model, data, dataset, [[0]] * spare, accelerator):
            pass
    return answers, total, count


@torch.no_grad()
def row_losses(model: nn.Module, data: TaskData, dataset: Dataset, most: int) -> list[float]:
    """The loss of each of at most `most` examples at equal distances, alone in its batch.

    Empty where an example has no loss of its own (contrastive learning).
    """
    objective, found = data.objective, []
    if isinstance(objective, Coupled):
        return []
    with evaluating(model, objective):
        for place in range(0, len(dataset), -(-len(dataset) // most)):
            batch = dataset.collate([dataset[place]])
            loss = objective.loss(outputs_of(model, objective, batch), batch)
            found.append(float(loss.sum) / (targets_of(objective, batch) or 1))
    return found


def batches_through(
    model: nn.Module, data: TaskData, dataset: Dataset, size: int, accelerator: Accelerator
) -> Iterator[tuple[Any, Batch, list[int]]]:
    """Outputs, batches and places of this process's examples."""
    with evaluating(model, data.objective):
        yield from launched(model, data, dataset, batches_of(dataset, size, accelerator), accelerator)


def one_row(model: nn.Module, data: TaskData, dataset: Dataset) -> None:
    """Have a network compute the first row as evaluation does, which no training batch is needed for."""
    with evaluating(model, data.objective):
        outputs_of(model, data.objective, dataset.collate([dataset[0]]))


@contextmanager
def evaluating(model: nn.Module, objective: nn.Module) -> Iterator[None]:
    """Both in evaluation mode; afterwards in the mode that each had."""
    modes = model.training, objective.training
    model.eval()
    objective.eval()
    yield
    model.train(modes[0])
    objective.train(modes[1])


def batches_of(dataset: Dataset, size: int, accelerator: Accelerator) -> list[list[int]]:
    """The places of this process's examples, batch by batch."""
    cut = batches_by_tokens if accelerator.device.type == "cuda" else sorted_batches
    most = max(size, SMALLEST)
    batches = cut(sizes_of(dataset), most)
    if in_windows(dataset) is not dataset:
        batches = [part for batch in batches for part in up_to(most, batch, dataset)]
    return batches[accelerator.process_index :: accelerator.num_processes]


def up_to(most: int, batch: list[int], dataset: Dataset) -> list[list[int]]:
    """A batch in parts of at most so many windows, or of one example that has more."""
    parts: list[list[int]] = []
    held = 0
    for place in batch:
        own = len(dataset[place].windows)
        if not parts or held + own > most:
            parts.append([])
            held = 0
        parts[-1].append(place)
        held += own
    return parts


@torch.no_grad()
def launched(
    model: nn.Module,
    data: TaskData,
    dataset: Dataset,
    pending: list[list[int]],
    accelerator: Accelerator,
    kept: Kept | None = None,
) -> Iterator[tuple[Any, Batch, list[int]]]:
    """Outputs, batches and places of the `pending` batches, which it takes from the list.

    The modes stay as they are; a batch that exceeds the memory is halved.
    """
    if kept is not None:
        kept.cover(dataset)
    while pending:
        places = pending.pop(0)
        try:
            examples = [dataset[place] for place in places]
            batch = dataset.collate(examples)
            if kept is not None:
                batch = kept.into(batch, windows_of(examples))
            outputs = outputs_of(model, data.objective, batch)
        except (RuntimeError, MemoryError, OSError) as error:
            pending[:0] = halves(places, error, model)
        else:
            yield outputs, batch, places


def spare_passes(model: nn.Module, mine: int, accelerator: Accelerator) -> int:
    """How many more batches another process has: each pass gathers the weights, where these are split."""
    if not is_split(next(model.parameters())):
        return 0
    return int(largest(accelerator, mine)[0]) - mine


def halves(places: list[int], error: BaseException, model: nn.Module) -> list[list[int]]:
    """Two batches in the place of one that exceeds the memory; raises every other error again.

    Where the weights are split no process may have other batches than it said.
    """
    if not out_of_memory(error):
        raise error
    if len(places) == 1 or is_split(next(model.parameters())):
        what = "a single row is" if len(places) == 1 else f"{len(places)} rows are"
        raise OutOfMemory(
            f"out of memory when {what} evaluated ({told(error)}); possible: a smaller"
            f"{' train.micro_batch,' if len(places) > 1 else ''} task.max_length, train.precision=bf16, a"
            " smaller model"
        ) from error
    torch.cuda.empty_cache()
    return [places[: len(places) // 2], places[len(places) // 2 :]]


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
