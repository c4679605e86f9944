"""A head that is solved for: regression on the frozen network's features, once for each L2 strength tried."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor, nn

from ftrun.data.batching import labels_tensor
from ftrun.errors import ConfigError
from ftrun.runs import clock
from ftrun.runs.signals import interruptions
from ftrun.runs.terminal import Bar, bar, say
from ftrun.tasks.dataset import SPLITS, Batch, Dataset, Draw, Example, labels_of
from ftrun.tasks.objective import outputs_of
from ftrun.training.evaluate import evaluate
from ftrun.training.kept.features import features
from ftrun.training.linear import MOST, Scaling, fit, following
from ftrun.training.loop import Loop

if TYPE_CHECKING:
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.objective import Objective
    from ftrun.tasks.scorer import Row
    from ftrun.training.source_task import SourceTask
    from ftrun.training.step import Step
    from ftrun.training.tracking.tracker import Tracker

EPOCHS = 10  # at least, over which draws of a resampled training split are counted
PROVED = 8  # rows whose logits by the features are compared with the network's
ALIKE = 0.05  # their difference by their size, at most; bf16 rounds


class Vectors(Dataset):
    """Examples known by the vectors that go into the head, (examples, width), and their labels in a batch."""

    def __init__(self, examples: Sequence[Example], vectors: Tensor, labels: list[Any]) -> None:
        super().__init__(examples, "")
        self.vectors, self.labels = vectors, labels

    def __getitem__(self, place: int) -> Example:
        return Example(self.vectors[place], self.labels[place], place)

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        vectors = torch.stack([example.inputs for example in examples])
        return {
            "inputs": {"vectors": vectors},
            "labels": labels_tensor([example.target for example in examples]),
        }


class Head(nn.Module):
    """The head alone, on vectors (batch, width)."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits (batch, outputs)."""
        logits: Tensor = self.layer(vectors)
        return logits


class Solve(Loop):
    """A run whose steps are L2 strengths tried: for each, the head is solved for and validation scored.

    The strength with the least validation loss is the best, or with the best `train.metric` where that is
    set. Every fit starts from nothing, so that the next strength is a function of the scores so far. With
    several processes each does the same, and the head is that of the first.
    """

    def __init__(self, step: Step, data: TaskData, tracker: Tracker, sources: list[SourceTask]) -> None:
        super().__init__(step, data, tracker, sources)
        self.length = replace(self.length, total=MOST)
        (layer,) = step.model.head_layers()
        assert isinstance(layer, nn.Linear)
        self.head = Head(layer)
        self._known: dict[int, tuple[Tensor, Any]] = {}  # the vector and label of an example, by its id

    @clock.phase("train")
    def run(self) -> None:
        with bar(MOST) as progress, interruptions() as signals:
            if following(self.state.tried) is not None:
                for split in SPLITS:
                    self.vectors(self.data.dataset(split))
                    self.save_if_signalled(signals)
                self.search(progress, signals)
            self.save_if_signalled(signals)

    def save_if_signalled(self, signals: list[int]) -> None:
        if signum := self.agreement.signal(signals, self.state):
            self.save()
            self.raise_if_signalled(signum)

    def search(self, progress: Bar, signals: list[int]) -> None:
        """Solve for one strength after another, with a checkpoint after each."""
        train = self.vectors(self.data.dataset("train"))
        found = train.vectors.double().numpy()
        scaling = Scaling.of(found, self.head.layer.bias is not None)
        scaled, labels = scaling(found), numpy.array(train.labels)
        weights = weights_of(
            self.data.dataset("train"), self.data.objective, train.labels, self.settings.seed
        )
        while (power := following(self.state.tried)) is not None:
            started = time.perf_counter(), time.process_time()
            solved = fit(
                scaled,
                labels,
                10.0**power,
                self.head.layer.out_features,
                weights,
                self.head.layer.bias is not None,
            )
            self.put(scaling.undone(solved))
            self.spent(*started)
            self.tried(power, train, solved.converged)
            progress.show(self.state.step, f"L2 strength {10.0**power:.3g}")
            self.save()
            self.raise_if_signalled(self.agreement.signal(signals, self.state))

    def put(self, solved: Any) -> None:
        """Give the head these weights; several processes take those of the first."""
        pairs = [(self.head.layer.weight, solved.weights), (self.head.layer.bias, solved.biases)]
        with torch.no_grad():
            for parameter, values in pairs:
                if parameter is not None:
                    parameter.copy_(torch.from_numpy(values))
                    if self.accelerator.num_processes > 1:
                        torch.distributed.broadcast(parameter.data, 0)

    def tried(self, power: float, train: Vectors, converged: bool) -> None:
        """Score validation, log the strength, and keep the head if it is the best one."""
        state = self.state
        state.step += 1
        scores, _ = self.scores(self.data.dataset("validation"))
        best = all(self.rank(scores) < tuple(rank) for _, *rank in state.tried)
        state.tried.append([power, *self.rank(scores)])
        held = {f"eval_{name}": value for name, value in scores.items()} | self.source_metrics("validation")
        self.log({"l2": 10.0**power, "train_loss": self.loss(train), **held}, *clock.lines())
        if best:
            state.best = {"step": state.step, **scores}
            self.save_best()
        text = "".join(f"  eval_{name} {scores[name]:.4f}" for name in dict.fromkeys(("loss", self.metric)))
        mark = "" if converged else "  L-BFGS did not converge"
        say(f"L2 strength {10.0**power:<8.3g}{text}{'  best so far' if best else ''}{mark}")

    def rank(self, scores: dict[str, float]) -> tuple[float, ...]:
        """The lower, the better; a score that is no number is the worst."""
        if self.settings.train.metric is None:
            return (number(scores["loss"]),)
        return number(-self.data.scorer.metrics[self.metric].sign * scores[self.metric]), number(
            scores["loss"]
        )

    def loss(self, train: Vectors) -> float:
        """The mean training loss of the objective, without the penalty."""
        objective, batch = self.data.objective, {"labels": labels_tensor(train.labels)}
        objective.train()
        with torch.no_grad():
            found = objective.loss(self.head(train.vectors.to(self.accelerator.device)), batch)
        mean = float(found.sum) / objective.count([batch])
        objective.eval()
        return mean

    def scores(self, dataset: Dataset) -> tuple[dict[str, float], list[Row]]:
        """The same as of the whole network, of which only the head is computed again."""
        size = 4 * self.state.micro_batch
        return evaluate(self.head, self.data, self.vectors(dataset), size, self.accelerator)

    def vectors(self, dataset: Dataset) -> Vectors:
        """A dataset's vectors; those that are not known yet are computed."""
        missing = [example for example in dataset.examples if id(example) not in self._known]
        if missing:
            started = time.perf_counter(), time.process_time()
            new = dataset.of(missing)
            found = features(self.step.model, new, self.accelerator)
            if not self._known:
                self.prove(new, found)
            pairs = zip(found, labels_of(new, new.examples).tolist(), strict=True)
            self._known |= dict(zip(map(id, missing), pairs, strict=True))
            self.state.cost["tokens"] += sum(example.size for example in missing)
            self.spent(*started)
        known = [self._known[id(example)] for example in dataset.examples]
        vectors, labels = zip(*known, strict=True)
        return Vectors(dataset.examples, torch.stack(vectors), list(labels))

    @torch.no_grad()
    def prove(self, dataset: Dataset, found: Tensor) -> None:
        """ConfigError unless the head on the features has the network's logits."""
        model = self.step.model.eval()
        whole = outputs_of(model, self.data.objective, dataset.collate(dataset.examples[:PROVED])).float()
        by_head = self.head(found[:PROVED].to(whole.device))
        if whole.shape != by_head.shape or (whole - by_head).norm() > ALIKE * whole.norm():
            raise ConfigError(
                f"solver=lbfgs: the logits of {type(model.net).__name__} are not those of its new layer on a"
                " vector of each example; possible: solver=adamw"
            )

    def spent(self, wall: float, cpu: float) -> None:
        """Add what went by since to the cost of training."""
        self.state.cost["train_seconds"] += time.perf_counter() - wall
        self.state.cost["train_cpu_seconds"] += time.process_time() - cpu

    def place(self) -> dict[str, float]:
        """A strength tried is no epoch."""
        return {"step": self.state.step}

    def choices(self) -> dict[str, float]:
        """The L2 strength of the best head."""
        return {"l2": 10.0 ** self.state.tried[int(self.state.best["step"]) - 1][0]}


def number(value: float) -> float:
    return math.inf if math.isnan(value) else value


def weights_of(dataset: Dataset, objective: Objective, labels: list[Any], seed: int) -> Any:
    """The weights of training examples, mean 1: of each in the objective, times how often it is drawn."""
    objective.train()
    weights = numpy.array([float(objective.count([{"labels": labels_tensor([label])}])) for label in labels])
    objective.eval()
    drawn = numpy.zeros(len(labels))
    for epoch in count():
        chosen = list(dataset.epoch(seed, epoch))
        drawn += numpy.bincount(chosen, minlength=len(labels))
        if chosen == list(range(len(labels))) or (drawn.min() > 0 and epoch + 1 >= EPOCHS):
            break
    weights *= drawn
    return weights / weights.mean()
