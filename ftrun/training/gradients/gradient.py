"""The gradient of a batch over micro-batches, processes and earlier tasks; adapts to the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING

import torch

from ftrun.errors import OutOfMemory, out_of_memory, told
from ftrun.runs.terminal import say
from ftrun.settings.seeds import stream
from ftrun.tasks.dataset import Draw
from ftrun.tasks.objective import Coupled, count_of_rows, outputs_of
from ftrun.tasks.placing import placed
from ftrun.training.devices import added
from ftrun.training.gradients.gradcache import coupled_backward
from ftrun.training.gradients.graphs import opened
from ftrun.training.gradients.prepared import Batches, share, share_of
from ftrun.training.gradients.recompute import recomputing

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch
    from ftrun.training.kept.kept import Kept
    from ftrun.training.sharding import Sharded
    from ftrun.training.source_task import SourceTask
    from ftrun.training.state import State

FEW = 8  # examples: halving costs a GPU more time below, recomputing a third at any size


class Gradient:
    """Accumulates the gradient of a step; `wrapped` is the model as accelerate or FSDP2 prepared it."""

    def __init__(
        self,
        model: Model,
        wrapped: nn.Module,
        data: TaskData,
        settings: Settings,
        accelerator: Accelerator,
        kept: Kept,
        sharded: Sharded | None = None,
    ) -> None:
        self.model, self.wrapped, self.settings, self.accelerator = model, wrapped, settings, accelerator
        self.sharded = sharded
        self.objective, self.guard = data.objective, settings.guard
        self.batches = Batches(data.dataset("train"), kept, accelerator.device)
        # of the latest step's loss: sums and counts
        self.parts: dict[str, tuple[float | torch.Tensor, float | torch.Tensor]] = {}
        self.recompute = settings.train.checkpoint_layers is True
        self.graphs = opened(model, data, settings, accelerator)

    def of(
        self, rows: list[int], state: State, clear: Callable[[], None]
    ) -> tuple[torch.Tensor, float | torch.Tensor]:
        """Backward of the mean loss over all targets of the batch; returns the summed loss and their count.

        Nothing is read from the device: the loss is a tensor of fp64, and the count is one where only all
        processes together know it. With weighted targets it is the weighted mean, and the count is the sum of
        the weights. When the memory is exhausted, layers are recomputed or the micro-batch is halved, `clear`
        zeroes the gradients, and the step restarts.
        """
        while True:
            try:
                with recomputing(self.model) if self.recompute else nullcontext():
                    return self.accumulate(rows, state)
            except (RuntimeError, MemoryError, OSError) as error:
                if not out_of_memory(error):
                    raise
                self.forget()
                self.need_less(error, state)
                clear()

    def accumulate(self, rows: list[int], state: State) -> tuple[torch.Tensor, float | torch.Tensor]:
        """Backward over this process's micro-batches; DDP or FSDP2 averages all processes' gradients."""
        parts, own_index = self.accelerator.num_processes, self.accelerator.process_index
        self.seed(state.step, own_index)
        earlier = self.guard.replay(state.step, len(rows))
        own, together = 1 - self.guard.replayed_share() if earlier else 1.0, sum(len(c) for _, c in earlier)
        for past, chosen in earlier:
            self.rehearse(past, chosen, state, (1 - own) * len(chosen) / together)
        idle = len(rows) <= own_index
        draw = Draw(self.settings.seed, state.epoch, state.step)
        ready = self.batches.of(share(rows, own_index, parts), draw, state.micro_batch)
        batches = ready.batches
        self.objective.train()
        count = self.objective.count(ready.host)
        counted = self.counted(0.0 if idle else count, len(rows))
        weight = share_of(own * parts, counted)
        self.parts = {}
        if isinstance(self.objective, Coupled) and len(batches) > 1:
            total = self.coupled(batches, state.step, weight)
        else:
            whole = len(rows) == min(self.settings.train.batch_size, len(self.batches.dataset))
            spare = self.spare(len(batches), len(rows), state.micro_batch)
            total = self.backward(batches, idle, weight, whole, spare)
        state.cost["tokens"] += ready.tokens
        state.cost["padded_tokens"] += ready.padded
        self.batches.ahead(draw, state.micro_batch, own_index, parts)  # while the device computes
        return self.summed_over_processes(total), counted

    def seed(self, *place: int) -> None:
        """Start the dropout of a place in the run; `torch.manual_seed` would look for other devices too."""
        number = stream(self.settings.seed, "dropout", *place)
        torch.default_generator.manual_seed(number)
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def coupled(self, batches: list[Batch], step: int, weight: float | torch.Tensor) -> torch.Tensor:
        """Backward of the loss over all batches together; see `coupled_backward`."""

        def forward(number: int) -> torch.Tensor:
            place = (step, self.accelerator.process_index, number)
            self.seed(*place)
            outputs: torch.Tensor = outputs_of(self.wrapped, self.objective, batches[number])
            return outputs

        def backward(number: int, gradient: torch.Tensor) -> None:
            with self.syncing(number + 1 == len(batches)):
                self.accelerator.backward((forward(number) * gradient).sum())

        given = [batch["labels"] for batch in batches]
        whole = torch.cat(given) if isinstance(given[0], torch.Tensor) else list(chain(*given))
        labels = {"labels": whole}
        statistics = [buffer for module in self.model.batch_norms() for buffer in module.buffers()]
        loss = lambda outputs: self.objective.loss(outputs, labels).sum  # noqa: E731
        return coupled_backward(forward, backward, loss, len(batches), weight, statistics)

    def backward(
        self, batches: list[Batch], idle: bool, weight: float | torch.Tensor, whole: bool, spare: int = 0
    ) -> torch.Tensor:
        """Backward of each batch in turn, its loss times the weight; returns the summed loss, 0 when idle.

        So many `spare` passes follow, which add nothing.
        """

        def one(batch: Batch, weight: float | torch.Tensor, idle: bool = idle) -> torch.Tensor:
            found = self.objective.loss(outputs_of(self.wrapped, self.objective, batch), batch)
            if found.parts and self.graphs is not None and isinstance(weight, torch.Tensor):  # recorded
                raise ValueError("the parts of its loss are counted anew in each batch")
            loss = found.sum * 0 if idle else found.sum
            self.accelerator.backward(loss * weight)
            self.note(found.parts, idle)
            return loss.detach()

        losses = []
        for number, batch in enumerate(batches):
            with self.syncing(number + 1 == len(batches) + spare):
                if self.graphs is None or self.recompute:
                    losses.append(one(batch, weight).double())
                else:
                    losses.append(self.graphs.run(one, batch, weight, whole).double())
        for number in range(spare):
            with self.syncing(number + 1 == spare):
                one(batches[-1], weight, idle=True)
        return sum(losses[1:], losses[0])

    def spare(self, mine: int, rows: int, size: int) -> int:
        """Passes to add, so that all have as many as the process with most rows: each gathers weights."""
        if self.sharded is None:
            return 0
        return ceil(ceil(rows / self.accelerator.num_processes) / size) - mine

    def note(self, parts: dict[str, tuple[torch.Tensor, int]], idle: bool) -> None:
        """Add the components of a loss, each a sum and its count, to those of this step."""
        for name, (value, count) in parts.items():
            total, counted = self.parts.get(name, (0.0, 0))
            self.parts[name] = (total, counted) if idle else (total + value.double(), counted + count)

    def counted(self, own: float, rows: int) -> float | torch.Tensor:
        """The count of targets over all processes: exchanged only where it does not follow from the rows."""
        if self.accelerator.num_processes == 1:
            return float(own)
        known = count_of_rows(self.objective, rows)
        return added(self.accelerator, [own])[0] if known is None else known

    def summed_over_processes(self, total: torch.Tensor) -> torch.Tensor:
        """The loss summed over all processes, and with it the components in `parts`."""
        if self.accelerator.num_processes == 1:
            return total
        own = [each for pair in self.parts.values() for each in pair]
        total, *values = added(self.accelerator, [total, *own])
        self.parts = dict(zip(self.parts, zip(values[::2], values[1::2], strict=True), strict=True))
        return total

    def rehearse(self, past: SourceTask, rows: list[int], state: State, weight: float) -> None:
        """Backward of an earlier task's mean loss over these rows, times `weight`."""
        dataset, objective = past.data.dataset("train"), past.data.objective
        parts = self.accelerator.num_processes
        draw = Draw(self.settings.seed, 0, state.step)
        targets = objective.count([dataset.collate([dataset[row] for row in rows], draw)])
        mine, size = rows[self.accelerator.process_index :: parts], state.micro_batch
        chosen = [mine[start : start + size] for start in range(0, len(mine), size)]
        spare = self.spare(len(chosen), len(rows), size)
        with self.syncing(last=False):
            for number, part in enumerate([*chosen, *[rows[:1]] * spare]):
                batch = placed(dataset.collate([dataset[row] for row in part], draw), self.accelerator.device)
                with self.accelerator.autocast():
                    outputs = outputs_of(past.model, objective, batch)
                loss = objective.loss(outputs, batch).sum
                if loss.requires_grad:  # else every shared weight is still frozen
                    self.accelerator.backward(loss * (weight * parts / targets * (number < len(chosen))))

    @contextmanager
    def syncing(self, last: bool) -> Iterator[None]:
        if self.sharded is not None:
            self.sharded.syncing(last)
            yield
        elif last or self.accelerator.num_processes == 1:
            yield
        else:
            with self.accelerator.no_sync(self.wrapped):
                yield

    def forget(self) -> None:
        """Drop the graphs and the next batches: other weights train from now on, or less memory is left."""
        self.batches.forget()
        if self.graphs is not None:
            self.graphs.drop()

    def need_less(self, error: BaseException, state: State) -> None:
        """Less memory for the same gradient: halve the micro-batch, or recompute layers where it is small."""
        size, wish = state.micro_batch, self.settings.train.checkpoint_layers
        alone = self.accelerator.num_processes == 1
        open_to_it = wish == "auto" and size <= FEW and not self.recompute and not self.model.batch_norms()
        if not alone or (size == 1 and not open_to_it):
            raise OutOfMemory(
                f"out of memory with train.micro_batch={size} ({told(error)}); possible:"
                f"{' a smaller train.micro_batch,' if size > 1 else ''} a smaller task.max_length,"
                " train.checkpoint_layers=true, train.precision=bf16, or strategy=lora"
            ) from error
        torch.cuda.empty_cache()
        if open_to_it:
            self.recompute = True
            say("out of memory: train.checkpoint_layers auto → true; each layer is computed twice")
            return
        state.micro_batch = size // 2
        say(f"out of memory: train.micro_batch {size} → {size // 2}; the batch of a step stays the same")
