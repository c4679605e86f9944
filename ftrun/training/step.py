"""One optimizer step over a batch: learning rates, gradient, update, and the strategy's pull."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from accelerate import DistributedDataParallelKwargs

from ftrun.models.split import whole
from ftrun.settings.schedules import Course, Length
from ftrun.tasks.objective import acts_after_step
from ftrun.training.gradients.gradient import Gradient
from ftrun.training.kept.kept import Kept
from ftrun.training.late import Numbers
from ftrun.training.optim import groups, merged, optimizer
from ftrun.training.pending import Pending, divergence
from ftrun.training.state import State
from ftrun.training.updates.average import average_of

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings, Train
    from ftrun.tasks.data import TaskData
    from ftrun.training.sharding import Sharded

BAD_STEPS = 3  # non-finite steps in a row that end the run


class Step:
    """A model, its optimizer and their state."""

    def __init__(
        self,
        model: Model,
        data: TaskData,
        settings: Settings,
        run: Run,
        accelerator: Accelerator,
        sharded: Sharded | None = None,
    ) -> None:
        self.model, self.settings, self.run_directory, self.accelerator = model, settings, run, accelerator
        self.strategy, self.guard = settings.strategy, settings.guard
        self.sharded = sharded  # where the weights are split over the processes
        if sharded is None:
            model.to(accelerator.device)
        data = self.strategy.lesson(data, model)
        self.dataset, self.objective = data.dataset("train"), data.objective
        self.length = Length.of(settings.train, len(self.dataset.epoch(settings.seed, 0)))
        self.objective.setup(model, accelerator)
        self.parameters = model.trained()
        self.course = Course(settings.train.lr, settings.schedule, self.length, model.depth)
        self.open = frozenset(range(model.depth + 2))  # stages
        self.opens = {stage: self.strategy.opens(stage, self.course) for stage in self.open}
        self.all_open = max(self.opens.values())  # the step from which every stage trains
        if self.all_open:
            accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        # for training; the forward pass of DDP waits for all processes
        self.wrapped = accelerator.prepare_model(model) if sharded is None else sharded.root
        self.kept = Kept(model, data, settings, accelerator, self.course)
        self.backward = Gradient(model, self.wrapped, data, settings, accelerator, self.kept, sharded)
        own = self.optimizer_of(settings.train)
        self.optimizer = accelerator.prepare_optimizer(own, device_placement=False)
        self.stages = {name: model.stage_of(name) for name in self.parameters}
        self.state = State(micro_batch=settings.train.micro_batch or settings.train.batch_size)
        self.average = average_of(model, self.parameters, settings, own)
        self.norm = math.nan  # of the latest gradient that was read
        self.pending: Pending | None = None  # the latest step, as long as nobody has read what it came to
        self.begun = False  # whether every open weight has taken a step
        self.at_once = self.decides() or accelerator.scaler is not None or not own.defaults.get("fused")

    def decides(self) -> bool:
        """Whether what a step came to decides what comes next; else, fused, the device can skip it."""
        return self.guard.pulls() or acts_after_step(self.objective)

    def optimizer_of(self, train: Train) -> torch.optim.Optimizer:
        """The optimizer of all parameters, each of which has its group in `group_of`."""
        own = optimizer(
            merged(groups(self.model, train, self.strategy.scale), self.rate_course),
            train,
            self.accelerator.device,
        )
        groups_by_id = {id(weight): group for group in own.param_groups for weight in group["params"]}
        self.group_of = {name: groups_by_id[id(weight)] for name, weight in self.parameters.items()}
        return own

    def rate_course(self, stage: int) -> tuple[int, int | None]:
        """What is different of stages whose rates differ in time."""
        return self.opens[stage], stage if self.strategy.rate_by_stage() else None

    def take(self, rows: list[int]) -> None:
        """One optimizer step over the examples `rows`; what it came to is known after `settle`.

        The host reads the numbers of a step when it has launched the forward and backward pass of the next
        one. Those depend on how many steps were taken only where a stage is about to open; learning rates
        always do, and are set after it. A step that is not finite is skipped on the device.
        """
        with self.timed():
            updates = self.state.updates
            if self.pending is not None and self.opened(updates) != self.opened(updates + 1):
                self.read()
            self.set_open(self.opened(self.state.updates))
            norm, loss, count = self.gradient(rows)
            parts = [each for pair in self.backward.parts.values() for each in pair]
            numbers = Numbers([norm, loss, count, *parts], self.accelerator.device)
            self.read()
            self.set_rates()
            rate = self.optimizer.param_groups[-1]["lr"]
            latest = Pending(self.state.step, rows, rate, list(self.backward.parts), numbers)
            if self.known_at_once():
                self.update_or_skip(latest)
            else:
                self.plain_optimizer().found_inf = (~numbers.packed[:2].isfinite().all()).float()
                self.plain_optimizer().step()
                self.pending = latest
            self.clear()

    def known_at_once(self) -> bool:
        """Whether the host must know what a step came to before it goes on.

        So it is until the open weights have taken a step: only then has each a state in the optimizer, which
        a step skipped on the device would else leave behind half made.
        """
        return self.at_once or not self.begun

    def update_or_skip(self, latest: Pending) -> None:
        """The update, unless the gradient is not finite; what follows from it is done here too."""
        finite, scaled = latest.finite, self.accelerator.scaler is not None
        self.plain_optimizer().found_inf = None
        if finite or scaled:  # the fp16 scaler skips the step itself and lowers its scale
            (self.optimizer if scaled else self.plain_optimizer()).step()
        taken = finite and not self.optimizer.step_was_skipped
        if taken:
            self.begun = True
            if self.guard.pulls():
                self.guard.pull(self.rates())
        self.record(latest, taken)

    def settle(self) -> None:
        """Wait for the latest step and account for it; raises Diverged. Nothing is pending afterwards."""
        with self.timed():
            self.read()

    def read(self) -> None:
        latest, self.pending = self.pending, None
        if latest is not None:
            self.record(latest, latest.finite)

    def record(self, latest: Pending, taken: bool) -> None:
        """Add a step to the state, which says of a skipped one only that it was."""
        state, scaled = self.state, self.accelerator.scaler is not None
        self.norm, loss, count, *parts = latest.numbers.read()
        state.updates += taken
        state.bad_steps = 0 if taken else state.bad_steps + 1
        if taken:
            self.average.follow(state.updates)
            state.loss_sum, state.loss_count = state.loss_sum + loss, state.loss_count + count
            for name, value, of in zip(latest.parts, parts[::2], parts[1::2], strict=True):
                before = state.parts.get(name, [0.0, 0.0])
                state.parts[name] = [before[0] + value, before[1] + of]
            self.objective.after_step(self.norm)
        elif state.bad_steps >= (10 * BAD_STEPS if scaled else BAD_STEPS):
            self.diverged(latest, loss)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time to that of training."""
        wall, cpu, cost = time.perf_counter(), time.process_time(), self.state.cost
        yield
        cost["train_seconds"] += time.perf_counter() - wall
        cost["train_cpu_seconds"] += time.process_time() - cpu

    def opened(self, step: int) -> frozenset[int]:
        """The stages that train at an optimizer step."""
        return frozenset(stage for stage, first in self.opens.items() if step >= first)

    def set_rates(self) -> None:
        """Set the rate of each group at this step; that of a stage which is not open is zero."""
        step, course = self.state.updates, self.course
        for group in self.optimizer.param_groups:
            rate = self.strategy.rate(group["stage"], step, course) if group["stage"] in self.open else 0.0
            group["lr"] = group["scale"] * rate

    def rate(self) -> float:
        """The highest rate of weights whose own is no multiple of it; where all are, the last group's."""
        groups = self.optimizer.param_groups
        return max((group["lr"] for group in groups if group["scale"] <= 1), default=groups[-1]["lr"])

    def rates(self) -> dict[str, float]:
        """The effective learning rate of each weight; momentum multiplies it by 1/(1 - momentum)."""
        return {name: self.group_of[name]["lr"] * self.repeats for name in self.parameters}

    @property
    def repeats(self) -> float:
        """How often a gradient is applied in all: once, and again by momentum."""
        train = self.settings.train
        return 1 / (1 - train.momentum) if train.optimizer == "sgd" else 1.0

    def set_open(self, stages: Collection[int]) -> None:
        """Train these stages only; the others are frozen, with their dropout off."""
        changed = stages != self.open
        if changed:
            self.open, self.begun = frozenset(stages), False
            self.backward.forget()
            for name, parameter in self.parameters.items():
                parameter.requires_grad_(self.stages[name] in stages)
            self.wrapped.train()
        if changed or self.kept.cut is None:
            self.kept.follow(self.state)

    def gradient(self, rows: list[int]) -> tuple[Tensor, Tensor, float | Tensor]:
        """The gradient of a batch and of the penalty: its norm before clipping, the loss sum and count."""
        loss, count = self.backward.of(rows, self.state, self.clear)
        self.accelerator.unscale_gradients(self.optimizer)
        self.guard.add_gradient()
        clip = self.settings.train.clip or math.inf
        # not accelerate's, which would unscale the gradients again
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), clip)
        return whole(norm), loss, count

    def clear(self) -> None:
        """Zero the gradients; graphs add to those that are there."""
        self.plain_optimizer().zero_grad(set_to_none=self.backward.graphs is None)

    def plain_optimizer(self) -> torch.optim.Optimizer:
        """Without accelerate's wrapper, which only the scaler of fp16 needs and which takes its time."""
        return self.optimizer.optimizer

    def diverged(self, latest: Pending, loss: float) -> None:
        norm, bad_steps = self.norm, self.state.bad_steps
        report = {
            "step": latest.step,
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": latest.rate,
            "non_finite_steps": bad_steps,
            "rows_of_the_last_batch": [self.dataset[row].row for row in latest.rows],
        }
        if self.accelerator.is_main_process:
            self.run_directory.write_json("divergence.json", report)
        raise divergence(latest, loss, norm, bad_steps, self.settings.train.lr)
