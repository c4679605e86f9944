"""One optimizer step over a batch: rates, gradient, step, pull; halved where memory runs out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from accelerate import DistributedDataParallelKwargs

from ftrun.errors import Diverged, OutOfMemory
from ftrun.runs.terminal import say
from ftrun.settings.seeds import stream
from ftrun.training.evaluate import outputs_of
from ftrun.training.gradcache import coupled_backward
from ftrun.training.optim import groups, optimizer
from ftrun.training.state import Course, Length, State

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.strategies.base import Past
    from ftrun.tasks.base import Batch

BAD_STEPS = 3  # non-finite steps in a row that end the run


class Stepper:
    """A network, its optimizer, and how far they have come."""

    def __init__(self, model: Model, settings: Settings, run: Run, accelerator: Accelerator) -> None:
        self.model, self.settings, self.run_directory, self.accelerator = model, settings, run, accelerator
        self.task, self.strategy, self.guard = settings.task, settings.strategy, settings.guard
        self.examples = self.task.examples("train")
        self.length = Length.of(settings.train, len(self.task.epoch_rows(settings.seed, 0)))
        model.to(accelerator.device)
        self.task.meet(model, accelerator)
        self.parameters = model.trained()
        self.course = Course(settings.train.lr, settings.schedule, self.length, model.depth)
        self.open = set(range(model.depth + 2))  # stages
        self.parts: dict[str, tuple[float | torch.Tensor, int]] = {}  # of the latest step's loss
        if any(self.strategy.opens(stage, self.course) for stage in self.open):
            accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.wrapped = accelerator.prepare_model(model)  # for training; DDP's forward waits for all processes
        self.optimizer = accelerator.prepare_optimizer(
            optimizer(groups(model, settings.train), settings.train, accelerator.device),
            device_placement=False,
        )
        self.state = State(micro_batch=settings.train.micro_batch or settings.train.batch_size)

    def step(self, rows: list[int]) -> float:
        """One optimizer step over the examples `rows`; returns the norm of its gradient."""
        state = self.state
        wall, cpu = time.perf_counter(), time.process_time()
        self.set_rates()
        norm, loss, count = self.gradient(rows)
        finite = math.isfinite(norm) and math.isfinite(loss)
        scaled = self.accelerator.scaler is not None
        if finite or scaled:  # the fp16 scaler skips by itself, and lowers its scale
            self.optimizer.step()
        taken = finite and not self.optimizer.step_was_skipped
        if taken:
            self.guard.pull(self.rates())
        self.optimizer.zero_grad()
        state.updates += taken
        state.bad_steps = 0 if taken else state.bad_steps + 1
        if taken:
            state.loss_sum, state.loss_count = state.loss_sum + loss, state.loss_count + count
            for name, pair in self.parts.items():
                before = state.parts.get(name, [0.0, 0.0])
                state.parts[name] = [old + self.summed(new) for old, new in zip(before, pair, strict=True)]
            self.task.stepped(norm)
        elif state.bad_steps >= (10 * BAD_STEPS if scaled else BAD_STEPS):
            self.diverged(rows, norm, loss)
        state.cost["train_seconds"] += time.perf_counter() - wall
        state.cost["train_cpu_seconds"] += time.process_time() - cpu
        return norm

    def set_rates(self) -> None:
        """Each group's rate at this step; a stage opens or closes as the strategy says."""
        step, course = self.state.updates, self.course
        opened = {stage for stage in range(course.depth + 2) if step >= self.strategy.opens(stage, course)}
        for group in self.optimizer.param_groups:
            stage = group["stage"]
            group["lr"] = group["scale"] * self.strategy.rate(stage, step, course) if stage in opened else 0.0
        self.set_open(opened)

    def rates(self) -> dict[str, float]:
        """What each weight's step was scaled by; momentum repeats a step 1/(1 - momentum) times."""
        repeats = 1 / (1 - self.settings.train.momentum) if self.settings.train.optimizer == "sgd" else 1.0
        by_stage = {group["stage"]: group["lr"] * repeats for group in self.optimizer.param_groups}
        return {name: by_stage[self.model.stage_of(name)] for name in self.parameters}

    def set_open(self, stages: set[int]) -> None:
        """Let these stages train and no others of those that shall ever; a frozen one has its dropout off."""
        if stages != self.open:
            self.open = stages
            for name, parameter in self.parameters.items():
                parameter.requires_grad_(self.model.stage_of(name) in stages)
            self.wrapped.train()

    def gradient(self, rows: list[int]) -> tuple[float, float, float]:
        """Gradient of the mean loss over all targets of the batch; its norm before clipping, loss sum, count.

        Where the targets weigh, it is the weighted mean, and the count is the sum of the weights.

        When memory runs out the micro-batch is halved and the step begins again.
        """
        while True:
            try:
                loss, count = self.accumulate(rows)
                break
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                self.halve(error)
        self.accelerator.unscale_gradients(self.optimizer)
        self.guard.add_gradient()
        clip = self.settings.train.clip or math.inf
        norm = self.accelerator.clip_grad_norm_(list(self.parameters.values()), clip)
        return float(norm), loss, count

    def accumulate(self, rows: list[int]) -> tuple[float, float]:
        """Backward over the micro-batches of this process; DDP averages the gradients of all processes."""
        state, parts = self.state, self.accelerator.num_processes
        torch.manual_seed(stream(self.settings.seed, "dropout", state.step, self.accelerator.process_index))
        earlier = self.guard.replay(state.step, len(rows))
        own = 1 - self.guard.replayed_share() if earlier else 1.0
        for past, chosen in earlier:
            self.rehearse(past, chosen, (1 - own) * len(chosen) / sum(len(each) for _, each in earlier))
        self.task.at(self.settings.seed, state.step)
        mine = rows[self.accelerator.process_index :: parts]
        idle = not mine  # fewer examples than processes: take one along, at weight zero
        mine = mine or rows[:1]
        micro = [mine[i : i + state.micro_batch] for i in range(0, len(mine), state.micro_batch)]
        batches = [self.task.collate([self.examples[row] for row in part]) for part in micro]
        counted = self.summed(0.0 if idle else sum(map(self.task.training_count, batches)))
        weight = own * parts / (counted or 1)
        self.parts = {}
        if self.task.joint and len(batches) > 1:
            total = coupled_backward(self, batches, weight)
        else:
            total = self.backward(batches, idle, weight)
        for part, batch in zip(micro, batches, strict=True):
            self.note(batch.get("parts", {}), idle)
            self.count_tokens(part, batch)
        return self.summed(total), counted

    def backward(self, batches: list[Batch], idle: bool, weight: float) -> torch.Tensor:
        """One batch after the other, each loss times the weight; returns their sum, 0 when idle."""
        total = torch.zeros((), device=self.accelerator.device, dtype=torch.float64)
        for number, batch in enumerate(batches):
            with self.syncing(number + 1 == len(batches)):
                loss = self.task.training_loss(outputs_of(self.wrapped, self.task, batch), batch)
                loss = loss * 0 if idle else loss
                self.accelerator.backward(loss * weight)
            total += loss.detach()
        return total

    def note(self, parts: dict[str, tuple[torch.Tensor, int]], idle: bool) -> None:
        """Add the parts that a task has left in a batch, each a sum and its count, to those of this step."""
        for name, (value, count) in parts.items():
            total, counted = self.parts.get(name, (0.0, 0))
            self.parts[name] = (total, counted) if idle else (total + value.double(), counted + count)

    def summed(self, value: float | torch.Tensor) -> float:
        """A number of this process, summed over all processes."""
        if self.accelerator.num_processes == 1:
            return float(value)
        tensor = torch.as_tensor(value, dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(tensor, "sum"))

    def rehearse(self, past: Past, rows: list[int], weight: float) -> None:
        """Backward of an earlier task's mean loss over these rows, times `weight`."""
        parts, task = self.accelerator.num_processes, past.task
        examples = task.examples("train")
        task.at(self.settings.seed, self.state.step)
        targets = task.target_count(task.collate([examples[row] for row in rows]))
        mine, size = rows[self.accelerator.process_index :: parts], self.state.micro_batch
        with self.syncing(last=False):
            for start in range(0, len(mine), size):
                batch = task.collate([examples[row] for row in mine[start : start + size]])
                with self.accelerator.autocast():
                    outputs = outputs_of(past.model, task, batch)
                loss, _ = task.loss(outputs, batch)
                if loss.requires_grad:  # else nothing that this task shares is open yet
                    self.accelerator.backward(loss * (weight * parts / targets))

    @contextmanager
    def syncing(self, last: bool) -> Iterator[None]:
        if last or self.accelerator.num_processes == 1:
            yield
        else:
            with self.accelerator.no_sync(self.wrapped):
                yield

    def halve(self, error: BaseException) -> None:
        size = self.state.micro_batch
        if size == 1 or self.accelerator.num_processes > 1:
            raise OutOfMemory(
                f"out of memory with train.micro_batch={size}; possible: a smaller train.micro_batch,"
                " a smaller task.max_length, train.precision=bf16, or strategy=lora"
            ) from error
        self.optimizer.zero_grad()
        torch.cuda.empty_cache()
        self.state.micro_batch = size // 2
        say(f"out of memory: train.micro_batch {size} → {size // 2}; the optimizer sees the same batch")

    def count_tokens(self, rows: list[int], batch: Batch) -> None:
        ids, cost = batch["inputs"].get("input_ids"), self.state.cost
        cost["tokens"] += sum(self.examples[row].size for row in rows)
        cost["padded_tokens"] += len(rows) if ids is None else ids.numel()

    def plain_optimizer(self) -> torch.optim.Optimizer:
        return self.optimizer.optimizer

    def diverged(self, rows: list[int], norm: float, loss: float) -> None:
        state = self.state
        report = {
            "step": state.step,
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": self.optimizer.param_groups[-1]["lr"],
            "non_finite_steps": state.bad_steps,
            "rows_of_the_last_batch": [self.examples[row].row for row in rows],
        }
        if self.accelerator.is_main_process:
            self.run_directory.write_json("divergence.json", report)
        raise Diverged(
            f"loss {loss} and gradient norm {norm} at step {state.step}, {state.bad_steps} steps in a row;"
            f" see divergence.json; possible: a lower train.lr (now {self.settings.train.lr:g}),"
            " a longer train.warmup, train.precision=fp32"
        )


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
