"""The training loop. It knows the network, the task and the strategy only by their methods."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from ftrun import checkpoint
from ftrun.batching import epoch_batches
from ftrun.errors import Diverged, Interrupted, OutOfMemory
from ftrun.evaluation import evaluate, outputs_of
from ftrun.optim import groups, optimizer
from ftrun.seeds import stream
from ftrun.signals import interruptions
from ftrun.state import Course, Length, State, better
from ftrun.terminal import Bar, bar, say

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.config import Settings
    from ftrun.models import Model
    from ftrun.rundir import Run
    from ftrun.source import Past
    from ftrun.tasks.base import Batch
    from ftrun.trackers import Tracker

BAD_STEPS = 3  # non-finite steps in a row that end the run


class Loop:
    """One training run: `run` goes from wherever the state stands to the end."""

    def __init__(
        self,
        model: Model,
        settings: Settings,
        run: Run,
        accelerator: Accelerator,
        tracker: Tracker,
        pasts: list[Past],
    ) -> None:
        self.model, self.settings, self.run_directory, self.pasts = model, settings, run, pasts
        self.task, self.strategy, self.guard = settings.task, settings.strategy, settings.guard
        self.accelerator, self.tracker = accelerator, tracker
        self.examples = self.task.examples("train")
        self.length = Length.of(settings.train, len(self.examples))
        self.metric = (settings.train.metric or f"eval_{self.task.default_metric}").removeprefix("eval_")
        model.to(accelerator.device)
        self.parameters = model.trained()
        self.wrapped = accelerator.prepare_model(model)  # for training; DDP's forward waits for all processes
        self.optimizer = accelerator.prepare_optimizer(
            optimizer(groups(model, settings.train), settings.train, accelerator.device),
            device_placement=False,
        )
        self.course = Course(settings.train.lr, settings.schedule, self.length, model.depth)
        self.open = set(range(model.depth + 2))  # stages
        self._clock = time.perf_counter(), time.process_time()
        self.state = State(micro_batch=settings.train.micro_batch or settings.train.batch_size)

    def run(self) -> None:
        """Train to the end; raises Interrupted, Diverged or OutOfMemory, each with what was saved."""
        with bar(self.length.total) as progress, interruptions() as signals:
            while self.state.step < self.length.total and not self.state.stopped:
                self.epoch(progress, signals)

    def epoch(self, progress: Bar, signals: list[int]) -> None:
        state, settings = self.state, self.settings
        lengths = [example.size for example in self.examples]
        batches = epoch_batches(lengths, settings.train.batch_size, settings.seed, state.epoch)
        self.wrapped.train()
        for rows in batches[state.position :]:
            epoch_done = state.position + 1 == len(batches)
            norm = self.step(rows)
            state.step, state.position = state.step + 1, state.position + 1
            if epoch_done:
                state.epoch, state.position = state.epoch + 1, 0
            self.after_step(norm, progress, self.agreed(signals))
            if state.step >= self.length.total or state.stopped:
                return

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

    def gradient(self, rows: list[int]) -> tuple[float, float, int]:
        """Gradient of the mean loss over all targets of the batch; its norm before clipping, loss sum, count.

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

    def accumulate(self, rows: list[int]) -> tuple[float, int]:
        """Backward over the micro-batches of this process; DDP averages the gradients of all processes."""
        state, parts = self.state, self.accelerator.num_processes
        torch.manual_seed(stream(self.settings.seed, "dropout", state.step, self.accelerator.process_index))
        earlier = self.guard.replay(state.step, len(rows))
        own = 1 - self.guard.replayed_share() if earlier else 1.0
        for past, chosen in earlier:
            self.rehearse(past, chosen, (1 - own) * len(chosen) / sum(len(each) for _, each in earlier))
        mine = rows[self.accelerator.process_index :: parts]
        idle = not mine  # fewer examples than processes: take one along, at weight zero
        mine = mine or rows[:1]
        micro = [mine[i : i + state.micro_batch] for i in range(0, len(mine), state.micro_batch)]
        total = torch.zeros((), device=self.accelerator.device, dtype=torch.float64)
        count = 0
        for number, part in enumerate(micro):
            batch = self.task.collate([self.examples[row] for row in part])
            with self.syncing(number + 1 == len(micro)):
                loss, targets = self.task.loss(outputs_of(self.wrapped, batch), batch)
                if idle:
                    loss, targets = loss * 0, 0
                self.accelerator.backward(loss * (own * parts / len(rows)))
            total += loss.detach()
            count += targets
            self.count_tokens(part, batch)
        sums = torch.stack([total, torch.tensor(float(count), dtype=torch.float64, device=total.device)])
        if parts > 1:
            sums = self.accelerator.reduce(sums, "sum")
        loss_sum, counted = float(sums[0]), int(sums[1])
        if counted != len(rows):
            for parameter in self.parameters.values():
                if parameter.grad is not None:
                    parameter.grad *= len(rows) / max(counted, 1)
        return loss_sum, counted

    def rehearse(self, past: Past, rows: list[int], weight: float) -> None:
        """Backward of an earlier task's mean loss over these rows, times `weight`."""
        parts, task = self.accelerator.num_processes, past.task
        examples = task.examples("train")
        targets = task.target_count(task.collate([examples[row] for row in rows]))
        mine, size = rows[self.accelerator.process_index :: parts], self.state.micro_batch
        with self.syncing(last=False):
            for start in range(0, len(mine), size):
                batch = task.collate([examples[row] for row in mine[start : start + size]])
                loss, _ = task.loss(outputs_of(past.model, batch), batch)
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

    def after_step(self, norm: float, progress: Bar, signum: int) -> None:
        """What follows a step, in this order: metrics, evaluation, checkpoint, a signal that came."""
        state, length = self.state, self.length
        last = state.step >= length.total
        progress.show(state.step, f"loss {state.loss_sum / max(state.loss_count, 1):.3f}")
        if state.step % length.log_every == 0 or last:
            self.log_training(norm)
        evaluated = state.step % length.eval_every == 0 or last
        if evaluated:
            self.evaluate()
        if evaluated or state.step % length.checkpoint_every == 0 or signum:
            self.save()
        if signum:
            name = signal.Signals(signum).name
            raise Interrupted(f"{name}: saved at step {state.step} of {length.total}", signum)

    def count_tokens(self, rows: list[int], batch: Batch) -> None:
        mask, cost = batch["inputs"].get("attention_mask"), self.state.cost
        cost["tokens"] += sum(self.examples[row].size for row in rows)
        cost["padded_tokens"] += len(rows) if mask is None else mask.numel()

    def log_training(self, norm: float) -> None:
        state = self.state
        mean = state.loss_sum / state.loss_count if state.loss_count else math.nan
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        values = {"train_loss": mean, "learning_rate": rate, "grad_norm": norm}
        if (penalty := self.guard.penalty()) is not None:
            values["penalty"] = penalty
        self.log(values)
        state.loss_sum, state.loss_count = 0.0, 0

    def log(self, values: dict[str, float]) -> None:
        state = self.state
        line = {"step": state.step, "epoch": round(state.step / self.length.per_epoch, 4), **values}
        if self.accelerator.is_main_process:
            self.run_directory.log(line)
            self.run_directory.log_time({"step": state.step, **self.spend()})
            self.tracker.log(values, state.step)

    def spend(self) -> dict[str, float]:
        """Add the time since the last call to the cost; returns what a line of timing shows."""
        now, cost = (time.perf_counter(), time.process_time()), self.state.cost
        cost["seconds"] += now[0] - self._clock[0]
        cost["cpu_seconds"] += now[1] - self._clock[1]
        self._clock = now
        return {
            "seconds": round(cost["seconds"], 3),
            "tokens_per_second": round(cost["tokens"] / max(cost["train_seconds"], 1e-9), 1),
        }

    def evaluate(self) -> None:
        """Score the validation split, keep the best weights, stop when they have not improved for long."""
        state = self.state
        scores, _ = evaluate(
            self.model, self.task, self.task.examples("validation"), 4 * state.micro_batch, self.accelerator
        )
        self.log(
            {f"eval_{name}": value for name, value in scores.items()} | self.source_metrics("validation")
        )
        if better(scores, state.best, self.metric, self.task.metrics[self.metric]):
            state.best, state.stale = {"step": state.step, **scores}, 0
            self.save_best()
        else:
            state.stale += 1
        patience = self.settings.train.patience
        state.stopped = patience is not None and state.stale >= patience
        mark = "  best so far" if state.best.get("step") == state.step else ""
        say(
            f"step {state.step:>5} of {self.length.total}  eval_loss {scores['loss']:.4f}  "
            f"eval_{self.metric} {scores[self.metric]:.4f}{mark}"
        )

    def source_scores(self, split: str) -> list[dict[str, float]]:
        """What the network still knows: every metric of each earlier task."""
        size = 4 * self.state.micro_batch
        found = [past.scores(split, size, self.accelerator) for past in self.pasts]
        self.wrapped.train()
        return found

    def source_metrics(self, split: str) -> dict[str, float]:
        """The same as named metrics: source_loss, or source1_loss and so on where there are several."""
        several = len(self.pasts) > 1
        return {
            f"source{number + 1 if several else ''}_{name}": value
            for number, scores in enumerate(self.source_scores(split))
            for name, value in scores.items()
        }

    def save_best(self) -> None:
        if self.accelerator.is_main_process:
            tensors = {"weights": checkpoint.weights_of(self.model, self.parameters)}
            checkpoint.save(self.run_directory.checkpoints / "best", tensors, {"step": self.state.step})

    def save(self) -> None:
        """The checkpoint `last`; the metrics up to here belong to it."""
        if self.accelerator.is_main_process:
            self.spend()
            self.state.metrics_size = self.run_directory.metrics_size()
            tensors = {
                "weights": checkpoint.weights_of(self.model, self.parameters),
                "optimizer": checkpoint.moments(self.plain_optimizer(), self.parameters),
            }
            state = asdict(self.state)
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            checkpoint.save(self.run_directory.checkpoints / "last", tensors, state)
        self.accelerator.wait_for_everyone()

    def restore(self) -> None:
        """Continue from the newest complete checkpoint, or from the beginning when there is none."""
        place, skipped = checkpoint.newest(self.run_directory.checkpoints / "last")
        for reason in skipped:
            say(f"skipped: {reason}")
        if place is not None:
            state = checkpoint.read_state(place)
            if scaler := state.pop("scaler", None):
                self.accelerator.scaler.load_state_dict(scaler)
            self.state = State(**state)
            checkpoint.load_weights(checkpoint.read_tensors(place, "weights"), self.model)
            checkpoint.load_moments(
                checkpoint.read_tensors(place, "optimizer"), self.plain_optimizer(), self.parameters
            )
        if self.accelerator.is_main_process:
            self.run_directory.truncate_metrics(self.state.metrics_size)
        say(f"resuming at step {self.state.step} of {self.length.total}")

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

    def agreed(self, signals: list[int]) -> int:
        """The signal that came, the same in every process, or 0."""
        mine = signals[0] if signals else 0
        if self.accelerator.num_processes == 1:
            return mine
        tensor = torch.tensor([mine], device=self.accelerator.device)
        return int(self.accelerator.gather(tensor).max())


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
