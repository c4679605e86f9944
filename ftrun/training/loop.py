"""The training loop, which uses model, task and strategy only through their interfaces."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ftrun.data.baselines import constant_score
from ftrun.data.batching import POOL, EpochBatches
from ftrun.errors import Interrupted
from ftrun.runs import clock
from ftrun.runs.signals import interruptions
from ftrun.runs.terminal import Bar, bar, say
from ftrun.tasks.dataset import sizes_of
from ftrun.training import checkpoint
from ftrun.training.agreement import Agreement
from ftrun.training.devices import largest
from ftrun.training.evaluate import evaluate
from ftrun.training.pausing import is_to_wait, rungs_of, wait
from ftrun.training.processes.ranks import ending
from ftrun.training.state import State, better, praise
from ftrun.training.updates.moments import moments

if TYPE_CHECKING:
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Dataset
    from ftrun.tasks.scorer import Row
    from ftrun.training.source_task import SourceTask
    from ftrun.training.step import Step
    from ftrun.training.tracking.tracker import Tracker

BETWEEN_SAVES = 60.0  # seconds, from which on an evaluation is followed by a checkpoint whatever is set


class Loop:
    """One training run, from the current state of its step to the end."""

    def __init__(self, step: Step, data: TaskData, tracker: Tracker, sources: list[SourceTask]) -> None:
        self.step, self.data, self.tracker, self.sources = step, data, tracker, sources
        self.settings, self.accelerator = step.settings, step.accelerator
        self.run_directory, self.length = step.run_directory, step.length
        train = self.settings.train
        self.metric = (train.metric or f"eval_{data.metric}").removeprefix("eval_")
        order = data.task.habits.order if train.sampling == "auto" else train.sampling
        self.pool = 1 if order == "random" else POOL  # batches whose examples are sorted by length
        card = step.run_directory.read_json("data.json") or {}
        self.baselines: dict[str, Any] = card.get("baselines", {})
        self.rungs = rungs_of(self.length)  # the steps at which to wait
        self._clock, self._saved = clock.now(), time.perf_counter()
        self.agreement = Agreement(self.accelerator)

    @property
    def state(self) -> State:
        return self.step.state

    @clock.phase("train")
    def run(self) -> None:
        """Train to the end; raises Interrupted, Diverged or OutOfMemory."""
        if self.waits():  # it was killed before it had said so
            wait(self.step, self.data)
        with bar(self.length.total) as progress, interruptions() as signals:
            while self.state.step < self.length.total and not self.state.stopped:
                self.epoch(progress, signals)
            self.raise_if_signalled(self.agreement.signal(signals, self.state))  # during the last evaluation

    def epoch(self, progress: Bar, signals: list[int]) -> None:
        state, settings = self.state, self.settings
        dataset = self.step.dataset
        chosen = dataset.epoch(settings.seed, state.epoch)
        lengths = sizes_of(dataset, chosen)
        batches = EpochBatches(lengths, settings.train.batch_size, settings.seed, state.epoch, self.pool)
        self.step.wrapped.train()
        for position in range(state.position, len(batches)):
            batch = batches[position]
            epoch_done = state.position + 1 == len(batches)
            following = [] if epoch_done else batches[state.position + 1]
            self.step.backward.batches.upcoming = [chosen[place] for place in following] or None
            self.step.take([chosen[place] for place in batch])
            state.step, state.position = state.step + 1, state.position + 1
            if epoch_done:
                state.epoch, state.position = state.epoch + 1, 0
            self.after_step(progress, signals)
            if state.step >= self.length.total or state.stopped:
                return

    def after_step(self, progress: Bar, signals: list[int]) -> None:
        """Log, evaluate, save a checkpoint and handle a signal, in this order; first settle the step."""
        state, length = self.state, self.length
        last = state.step >= length.total
        log = state.step % length.log_every == 0 or last
        evaluate = state.step % length.eval_every == 0 or last
        save = state.step % length.checkpoint_every == 0
        asked = evaluate or self.agreement.due(state.step)
        signum = self.agreement.signal(signals, state) if asked else 0
        if log or evaluate or save or signum:
            self.step.settle()
        progress.show(state.step, f"loss {state.loss_sum / (state.loss_count or 1):.3f}")
        if log:
            self.log_training()
        if evaluate:
            self.evaluate()
        waits = self.waits()
        if save or last or signum or state.stopped or waits or evaluate and self.long_since_saved():
            self.save()
        self.raise_if_signalled(signum)
        if waits:
            wait(self.step, self.data)

    def waits(self) -> bool:
        """Whether the run is to wait at this step."""
        state, rung = self.state, self.rungs.get(self.state.step)
        if rung is None or state.stopped:
            return False
        return is_to_wait(rung, state.best.get(self.metric), self.data.scorer.metrics[self.metric].sign)

    def raise_if_signalled(self, signum: int) -> None:
        """Raise Interrupted if a signal arrived; the checkpoint has been written."""
        if signum:
            ending()
            name = signal.Signals(signum).name
            raise Interrupted(f"{name}: saved at step {self.state.step} of {self.length.total}", signum)

    def log_training(self) -> None:
        state = self.state
        mean = state.loss_sum / state.loss_count if state.loss_count else math.nan
        values = {"train_loss": mean, "learning_rate": self.step.rate(), "grad_norm": self.step.norm}
        if (penalty := self.step.guard.penalty()) is not None:
            values["penalty"] = penalty
        values |= {f"train_{name}": total / (count or 1) for name, (total, count) in state.parts.items()}
        self.log(values | self.step.objective.figures())
        state.parts = {}
        state.loss_sum, state.loss_count = 0.0, 0.0

    def log(self, values: dict[str, float], *costs: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.run_directory.log(self.place() | values)
            self.run_directory.log_time({"step": self.state.step, **self.spend()}, *costs)
            self.tracker.log(values, self.state.step)

    def place(self) -> dict[str, float]:
        """Where the run has come to, as a line of metrics.jsonl says it."""
        return {"step": self.state.step, "epoch": round(self.state.step / self.length.per_epoch, 4)}

    def spend(self) -> dict[str, float]:
        """Add the time since the last call to the cost; returns the values of a line of timing.jsonl."""
        now, cost = clock.now(), self.state.cost
        cost["seconds"] += now[0] - self._clock[0]
        cost["cpu_seconds"] += now[1] - self._clock[1]
        self._clock = now
        return {
            "seconds": round(cost["seconds"], 3),
            f"{self.data.spec.inputs.unit}_per_second": round(
                cost["tokens"] / max(cost["train_seconds"], 1e-9), 1
            ),
        }

    def evaluate(self) -> None:
        """Score the validation split, keep the best weights, and stop when patience is exhausted."""
        metric = self.data.scorer.metrics[self.metric]
        with self.step.average.scored(self.validated, self.state, metric) as scores:
            self.judge(scores)

    def validated(self) -> dict[str, float]:
        """Every metric of the network as it is now, on the validation split."""
        return self.scores(self.data.dataset("validation"))[0]

    def judge(self, scores: dict[str, float]) -> None:
        """Log the scores, and keep the network as it is where these are the best."""
        state, metric = self.state, self.data.scorer.metrics[self.metric]
        found = {f"eval_{name}": value for name, value in scores.items()} | self.source_metrics("validation")
        self.log(found, *clock.lines())
        state.moved = state.moved or bool(state.best) and scores[self.metric] != state.best[self.metric]
        first = not state.best
        if improved := better(scores, state.best, metric):
            state.best, state.stale = {"step": state.step, **scores}, 0
            self.save_best()
        elif state.step > self.step.all_open and state.moved:
            state.stale += 1
        state.stopped = (most := self.settings.train.patience) is not None and state.stale >= most
        constant = constant_score(self.baselines, f"eval_{self.metric}")
        mark = praise(scores[self.metric], first, metric, *constant) if improved else ""
        text = "".join(f"  eval_{name} {scores[name]:.4f}" for name in dict.fromkeys(("loss", self.metric)))
        say(f"step {state.step:>5} of {self.length.total}{text}{mark}")

    @clock.phase("evaluate")
    def scores(self, dataset: Dataset) -> tuple[dict[str, float], list[Row]]:
        """Every metric of the current model, and the rows with their answers."""
        size = 4 * self.state.micro_batch
        return evaluate(self.step.model, self.data, dataset, size, self.accelerator, self.step.kept)

    @clock.phase("evaluate")
    def source_scores(self, split: str) -> list[dict[str, float]]:
        """Every metric of each earlier task."""
        size = 4 * self.state.micro_batch
        found = [source.scores(split, size, self.accelerator) for source in self.sources]
        self.step.wrapped.train()
        return found

    def source_metrics(self, split: str) -> dict[str, float]:
        """These metrics by name: source_loss, or source1_loss and so on for several tasks."""
        several = len(self.sources) > 1
        return {
            f"source{number + 1 if several else ''}_{name}": value
            for number, scores in enumerate(self.source_scores(split))
            for name, value in scores.items()
        }

    def choices(self) -> dict[str, float]:
        """What was chosen on validation beside the weights, for result.json."""
        return self.step.average.choices(self.state)

    def save_best(self) -> None:
        tensors = {"weights": checkpoint.weights_of(self.step.model, self.step.parameters)}
        if self.accelerator.is_main_process:
            self.run_directory.keep()
            state = {"step": self.state.step, "run": self.run_directory.key}
            checkpoint.save(self.run_directory.checkpoints / "best", tensors, state)
        elif self.step.sharded is not None:
            checkpoint.give(tensors)

    def save(self) -> None:
        """Write the checkpoint `last`, with the current size of the metrics."""
        self.step.kept.flush()
        tensors = {
            "weights": checkpoint.weights_of(self.step.model, self.step.parameters),
            "optimizer": moments(self.step.plain_optimizer(), self.step.parameters),
            **self.step.average.tensors(),
            **({"task": own} if (own := dict(self.step.objective.named_buffers())) else {}),
        }
        if self.accelerator.is_main_process:
            self.run_directory.keep()
            self.spend()
            self.state.metrics_size = self.run_directory.metrics_size()
            run = {"run": self.run_directory.key, "settings": self.run_directory.stored}
            state = asdict(self.state) | run
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            checkpoint.save(self.run_directory.checkpoints / "last", tensors, state)
        elif self.step.sharded is not None:
            checkpoint.give(tensors)
        self._saved = time.perf_counter()
        self.accelerator.wait_for_everyone()

    def long_since_saved(self) -> bool:
        """Whether the latest checkpoint is so old that the scores just found are worth another one."""
        return largest(self.accelerator, time.perf_counter() - self._saved)[0] >= BETWEEN_SAVES
