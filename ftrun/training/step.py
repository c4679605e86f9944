"""One optimizer step over a batch: learning rates, gradient, update, and the strategy's pull."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch
from accelerate import DistributedDataParallelKwargs

from ftrun.errors import Diverged
from ftrun.settings.schedules import Course, Length
from ftrun.training.gradient import Gradient
from ftrun.training.optim import groups, optimizer
from ftrun.training.state import State

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData

BAD_STEPS = 3  # non-finite steps in a row that end the run


class Step:
    """A model, its optimizer and their state."""

    def __init__(
        self, model: Model, data: TaskData, settings: Settings, run: Run, accelerator: Accelerator
    ) -> None:
        self.model, self.settings, self.run_directory, self.accelerator = model, settings, run, accelerator
        self.strategy, self.guard = settings.strategy, settings.guard
        self.dataset, self.objective = data.dataset("train"), data.objective
        self.length = Length.of(settings.train, len(self.dataset.epoch(settings.seed, 0)))
        model.to(accelerator.device)
        self.objective.setup(model, accelerator)
        self.parameters = model.trained()
        self.course = Course(settings.train.lr, settings.schedule, self.length, model.depth)
        self.open = set(range(model.depth + 2))  # stages
        # the step from which every stage trains
        self.all_open = max(self.strategy.opens(stage, self.course) for stage in self.open)
        if self.all_open:
            accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.wrapped = accelerator.prepare_model(
            model
        )  # for training; the forward pass of DDP waits for all processes
        self.backward = Gradient(model, self.wrapped, data, settings, accelerator)
        self.optimizer = accelerator.prepare_optimizer(
            optimizer(groups(model, settings.train), settings.train, accelerator.device),
            device_placement=False,
        )
        self.state = State(micro_batch=settings.train.micro_batch or settings.train.batch_size)

    def take(self, rows: list[int]) -> float:
        """One optimizer step over the examples `rows`; returns the norm of its gradient."""
        state = self.state
        wall, cpu = time.perf_counter(), time.process_time()
        self.set_rates()
        norm, loss, count = self.gradient(rows)
        finite = math.isfinite(norm) and math.isfinite(loss)
        scaled = self.accelerator.scaler is not None
        if finite or scaled:  # the fp16 scaler skips the step itself and lowers its scale
            self.optimizer.step()
        taken = finite and not self.optimizer.step_was_skipped
        if taken:
            self.guard.pull(self.rates())
        self.clear()
        state.updates += taken
        state.bad_steps = 0 if taken else state.bad_steps + 1
        if taken:
            state.loss_sum, state.loss_count = state.loss_sum + loss, state.loss_count + count
            for name, pair in self.backward.parts.items():
                before = state.parts.get(name, [0.0, 0.0])
                state.parts[name] = [
                    old + self.backward.summed(new) for old, new in zip(before, pair, strict=True)
                ]
            self.objective.after_step(norm)
        elif state.bad_steps >= (10 * BAD_STEPS if scaled else BAD_STEPS):
            self.diverged(rows, norm, loss)
        state.cost["train_seconds"] += time.perf_counter() - wall
        state.cost["train_cpu_seconds"] += time.process_time() - cpu
        return norm

    def set_rates(self) -> None:
        """Set the rate of each group at this step, and freeze or unfreeze stages as the strategy plans."""
        step, course = self.state.updates, self.course
        opened = {stage for stage in range(course.depth + 2) if step >= self.strategy.opens(stage, course)}
        for group in self.optimizer.param_groups:
            stage = group["stage"]
            group["lr"] = group["scale"] * self.strategy.rate(stage, step, course) if stage in opened else 0.0
        self.set_open(opened)

    def rates(self) -> dict[str, float]:
        """The effective learning rate of each weight; momentum multiplies it by 1/(1 - momentum)."""
        by_stage = {group["stage"]: group["lr"] * self.repeats for group in self.optimizer.param_groups}
        return {name: by_stage[self.model.stage_of(name)] for name in self.parameters}

    @property
    def repeats(self) -> float:
        """How often a gradient is applied in all: once, and again by momentum."""
        train = self.settings.train
        return 1 / (1 - train.momentum) if train.optimizer == "sgd" else 1.0

    def set_open(self, stages: set[int]) -> None:
        """Train these stages only; the others are frozen, with their dropout off."""
        if stages != self.open:
            self.open = stages
            self.backward.forget()
            for name, parameter in self.parameters.items():
                parameter.requires_grad_(self.model.stage_of(name) in stages)
            self.wrapped.train()

    def gradient(self, rows: list[int]) -> tuple[float, float, float]:
        """The gradient of a batch and of the penalty: its norm before clipping, the loss sum and count."""
        loss, count = self.backward.of(rows, self.state, self.clear)
        self.accelerator.unscale_gradients(self.optimizer)
        self.guard.add_gradient()
        clip = self.settings.train.clip or math.inf
        # not accelerate's, which would unscale the gradients again
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), clip)
        return float(norm), loss, count

    def clear(self) -> None:
        """Zero the gradients; graphs add to those that are there."""
        self.optimizer.zero_grad(set_to_none=self.backward.graphs is None)

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
            "rows_of_the_last_batch": [self.dataset[row].row for row in rows],
        }
        if self.accelerator.is_main_process:
            self.run_directory.write_json("divergence.json", report)
        raise Diverged(
            f"loss {loss} and gradient norm {norm} at step {state.step}, {state.bad_steps} steps in a row;"
            f" see divergence.json; possible: a lower train.lr (now {self.settings.train.lr:g}),"
            " a longer train.warmup, train.precision=fp32"
        )
