"""The training loop. It knows the network, the task and the strategy only by their methods."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from ftrun.data.batching import POOL, epoch_batches
from ftrun.errors import Interrupted
from ftrun.runs.terminal import Bar, bar, say
from ftrun.training import checkpoint
from ftrun.training.evaluate import evaluate
from ftrun.training.signals import interruptions
from ftrun.training.state import State, better
from ftrun.training.step import Stepper

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.experiments.sources import Past
    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.training.trackers import Tracker


class Loop(Stepper):
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
        super().__init__(model, settings, run, accelerator)
        self.tracker, self.pasts = tracker, pasts
        self.metric = (settings.train.metric or f"eval_{self.task.default_metric}").removeprefix("eval_")
        sampling = settings.train.sampling
        self.at_random = self.task.samples_at_random if sampling == "auto" else sampling == "random"
        self._clock = time.perf_counter(), time.process_time()

    def run(self) -> None:
        """Train to the end; raises Interrupted, Diverged or OutOfMemory, each with what was saved."""
        with bar(self.length.total) as progress, interruptions() as signals:
            while self.state.step < self.length.total and not self.state.stopped:
                self.epoch(progress, signals)
            self.heed(self.agreed(signals))  # one that came during the last evaluation

    def epoch(self, progress: Bar, signals: list[int]) -> None:
        state, settings = self.state, self.settings
        chosen = self.task.epoch_rows(settings.seed, state.epoch)
        lengths = [self.examples[row].size for row in chosen]
        pool = 1 if self.at_random else POOL
        batches = epoch_batches(lengths, settings.train.batch_size, settings.seed, state.epoch, pool)
        self.task.turn(state.epoch)
        self.wrapped.train()
        for batch in batches[state.position :]:
            epoch_done = state.position + 1 == len(batches)
            norm = self.step([chosen[place] for place in batch])
            state.step, state.position = state.step + 1, state.position + 1
            if epoch_done:
                state.epoch, state.position = state.epoch + 1, 0
            self.after_step(norm, progress, self.agreed(signals))
            if state.step >= self.length.total or state.stopped:
                return

    def after_step(self, norm: float, progress: Bar, signum: int) -> None:
        """What follows a step, in this order: metrics, evaluation, checkpoint, a signal that came."""
        state, length = self.state, self.length
        last = state.step >= length.total
        progress.show(state.step, f"loss {state.loss_sum / (state.loss_count or 1):.3f}")
        if state.step % length.log_every == 0 or last:
            self.log_training(norm)
        evaluated = state.step % length.eval_every == 0 or last
        if evaluated:
            self.evaluate()
        if evaluated or state.step % length.checkpoint_every == 0 or signum:
            self.save()
        self.heed(signum)

    def heed(self, signum: int) -> None:
        """End the run, which is saved, where a signal came."""
        if signum:
            name = signal.Signals(signum).name
            raise Interrupted(f"{name}: saved at step {self.state.step} of {self.length.total}", signum)

    def log_training(self, norm: float) -> None:
        state = self.state
        mean = state.loss_sum / state.loss_count if state.loss_count else math.nan
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        values = {"train_loss": mean, "learning_rate": rate, "grad_norm": norm}
        if (penalty := self.guard.penalty()) is not None:
            values["penalty"] = penalty
        values |= {f"train_{name}": total / (count or 1) for name, (total, count) in state.parts.items()}
        self.log(values | self.task.watched())
        state.parts = {}
        state.loss_sum, state.loss_count = 0.0, 0.0

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
            f"{self.task.unit}_per_second": round(cost["tokens"] / max(cost["train_seconds"], 1e-9), 1),
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
        shown = "".join(f"  eval_{name} {scores[name]:.4f}" for name in dict.fromkeys(("loss", self.metric)))
        say(f"step {state.step:>5} of {self.length.total}{shown}{mark}")

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
                **({"task": own} if (own := self.task.tensors()) else {}),
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
            if own := self.task.tensors():
                saved = checkpoint.read_tensors(place, "task")
                for name, value in own.items():
                    value.copy_(saved[name])
        if self.accelerator.is_main_process:
            self.run_directory.truncate_metrics(self.state.metrics_size)
        say(f"resuming at step {self.state.step} of {self.length.total}")

    def agreed(self, signals: list[int]) -> int:
        """The signal that came, the same in every process, or 0."""
        mine = signals[0] if signals else 0
        if self.accelerator.num_processes == 1:
            return mine
        tensor = torch.tensor([mine], device=self.accelerator.device)
        return int(self.accelerator.gather(tensor).max())
