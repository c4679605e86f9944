"""The gradient of a batch over micro-batches, processes and earlier tasks; adapts to the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch

from ftrun.errors import OutOfMemory
from ftrun.runs.terminal import say
from ftrun.settings.seeds import stream
from ftrun.tasks.dataset import Draw
from ftrun.tasks.objective import Coupled, outputs_of
from ftrun.training.gradcache import coupled_backward
from ftrun.training.recompute import recomputing

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch
    from ftrun.training.source_task import SourceTask
    from ftrun.training.state import State

FEW = 8  # examples: halving costs a GPU more time below, recomputing a third at any size


class Gradient:
    """Accumulates the gradient of a step; `wrapped` is the model as accelerate prepared it."""

    def __init__(
        self, model: Model, wrapped: nn.Module, data: TaskData, settings: Settings, accelerator: Accelerator
    ) -> None:
        self.model, self.wrapped, self.settings, self.accelerator = model, wrapped, settings, accelerator
        self.dataset, self.objective, self.guard = data.dataset("train"), data.objective, settings.guard
        self.recompute = settings.train.checkpoint_layers is True
        self.parts: dict[str, tuple[float | torch.Tensor, int]] = {}  # of the latest step's loss

    def of(self, rows: list[int], state: State, clear: Callable[[], None]) -> tuple[float, float]:
        """Backward of the mean loss over all targets of the batch; returns the summed loss and their count.

        With weighted targets it is the weighted mean, and the count is the sum of the weights. When the
        memory is exhausted, layers are recomputed or the micro-batch is halved, `clear` zeroes the gradients,
        and the step restarts.
        """
        while True:
            try:
                with recomputing(self.model) if self.recompute else nullcontext():
                    return self.accumulate(rows, state)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                self.need_less(error, state)
                clear()

    def accumulate(self, rows: list[int], state: State) -> tuple[float, float]:
        """Backward over the micro-batches of this process; DDP averages the gradients of all processes."""
        parts = self.accelerator.num_processes
        torch.manual_seed(stream(self.settings.seed, "dropout", state.step, self.accelerator.process_index))
        earlier = self.guard.replay(state.step, len(rows))
        own = 1 - self.guard.replayed_share() if earlier else 1.0
        for past, chosen in earlier:
            self.rehearse(
                past, chosen, state, (1 - own) * len(chosen) / sum(len(each) for _, each in earlier)
            )
        mine = rows[self.accelerator.process_index :: parts]
        idle = not mine  # fewer examples than processes: compute one with weight zero
        mine = mine or rows[:1]
        micro = [mine[i : i + state.micro_batch] for i in range(0, len(mine), state.micro_batch)]
        draw = Draw(self.settings.seed, state.epoch, state.step)
        batches = [self.dataset.collate([self.dataset[row] for row in part], draw) for part in micro]
        self.objective.train()
        count = self.objective.count(batches)
        counted = self.summed(0.0 if idle else count)
        weight = own * parts / (counted or 1)
        self.parts = {}
        if isinstance(self.objective, Coupled) and len(batches) > 1:
            total = self.coupled(batches, state.step, weight)
        else:
            total = self.backward(batches, idle, weight)
        for part, batch in zip(micro, batches, strict=True):
            self.count_tokens(part, batch, state)
        return self.summed(total), counted

    def coupled(self, batches: list[Batch], step: int, weight: float) -> torch.Tensor:
        """Backward of the loss over all batches together; see `coupled_backward`."""

        def forward(number: int) -> torch.Tensor:
            place = (step, self.accelerator.process_index, number)
            torch.manual_seed(stream(self.settings.seed, "dropout", *place))
            outputs: torch.Tensor = outputs_of(self.wrapped, self.objective, batches[number])
            return outputs

        def backward(number: int, gradient: torch.Tensor) -> None:
            with self.syncing(number + 1 == len(batches)):
                self.accelerator.backward((forward(number) * gradient).sum())

        labels = {"labels": [label for batch in batches for label in batch["labels"]]}
        statistics = [buffer for module in self.model.batch_norms() for buffer in module.buffers()]
        return coupled_backward(
            forward,
            backward,
            lambda outputs: self.objective.loss(outputs, labels).sum,
            len(batches),
            weight,
            statistics,
        )

    def backward(self, batches: list[Batch], idle: bool, weight: float) -> torch.Tensor:
        """Backward of each batch in turn, its loss times the weight; returns the summed loss, 0 when idle."""
        total = torch.zeros((), device=self.accelerator.device, dtype=torch.float64)
        for number, batch in enumerate(batches):
            with self.syncing(number + 1 == len(batches)):
                found = self.objective.loss(outputs_of(self.wrapped, self.objective, batch), batch)
                loss = found.sum * 0 if idle else found.sum
                self.accelerator.backward(loss * weight)
            total += loss.detach()
            self.note(found.parts, idle)
        return total

    def note(self, parts: dict[str, tuple[torch.Tensor, int]], idle: bool) -> None:
        """Add the components of a loss, each a sum and its count, to those of this step."""
        for name, (value, count) in parts.items():
            total, counted = self.parts.get(name, (0.0, 0))
            self.parts[name] = (total, counted) if idle else (total + value.double(), counted + count)

    def summed(self, value: float | torch.Tensor) -> float:
        """The sum of a number over all processes."""
        if self.accelerator.num_processes == 1:
            return float(value)
        tensor = torch.as_tensor(value, dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(tensor, "sum"))

    def rehearse(self, past: SourceTask, rows: list[int], state: State, weight: float) -> None:
        """Backward of an earlier task's mean loss over these rows, times `weight`."""
        parts, dataset, objective = (
            self.accelerator.num_processes,
            past.data.dataset("train"),
            past.data.objective,
        )
        draw = Draw(self.settings.seed, 0, state.step)
        targets = objective.count([dataset.collate([dataset[row] for row in rows], draw)])
        mine, size = rows[self.accelerator.process_index :: parts], state.micro_batch
        with self.syncing(last=False):
            for start in range(0, len(mine), size):
                batch = dataset.collate([dataset[row] for row in mine[start : start + size]], draw)
                with self.accelerator.autocast():
                    outputs = outputs_of(past.model, objective, batch)
                loss = objective.loss(outputs, batch).sum
                if loss.requires_grad:  # else every shared weight is still frozen
                    self.accelerator.backward(loss * (weight * parts / targets))

    @contextmanager
    def syncing(self, last: bool) -> Iterator[None]:
        if last or self.accelerator.num_processes == 1:
            yield
        else:
            with self.accelerator.no_sync(self.wrapped):
                yield

    def need_less(self, error: BaseException, state: State) -> None:
        """Less memory for the same gradient: halve the micro-batch, or recompute layers where it is small."""
        size, wish = state.micro_batch, self.settings.train.checkpoint_layers
        alone = self.accelerator.num_processes == 1
        open_to_it = wish == "auto" and size <= FEW and not self.recompute and not self.model.batch_norms()
        if not alone or (size == 1 and not open_to_it):
            raise OutOfMemory(
                f"out of memory with train.micro_batch={size}; possible: a smaller train.micro_batch,"
                " a smaller task.max_length, train.checkpoint_layers=true, train.precision=bf16,"
                " or strategy=lora"
            ) from error
        torch.cuda.empty_cache()
        if open_to_it:
            self.recompute = True
            say("out of memory: train.checkpoint_layers auto → true; each layer is computed twice")
            return
        state.micro_batch = size // 2
        say(f"out of memory: train.micro_batch {size} → {size // 2}; the batch of a step stays the same")

    def count_tokens(self, rows: list[int], batch: Batch, state: State) -> None:
        ids, cost = batch["inputs"].get("input_ids"), state.cost
        cost["tokens"] += sum(self.dataset[row].size for row in rows)
        cost["padded_tokens"] += len(rows) if ids is None else ids.numel()


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
