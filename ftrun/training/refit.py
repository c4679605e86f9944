"""A run whose steps train the network below the head; the head is solved for before each evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ftrun.data.batching import labels_tensor
from ftrun.runs import clock
from ftrun.tasks.dataset import Dataset, labels_of
from ftrun.training.kept.features import learnt, unkept
from ftrun.training.linear import Fit, Scaling, fit, following
from ftrun.training.loop import Loop
from ftrun.training.solve import Solve, number, weights_of

if TYPE_CHECKING:
    from ftrun.settings.protocols import Strategy

Array = Any  # numpy.ndarray


def loop_of(strategy: Strategy) -> type[Loop]:
    """How a strategy's run goes through its steps."""
    if strategy.solved:
        return Solve
    return Refit if strategy.refits else Loop


class Refit(Loop):
    """The L2 strength of the head is the one with the least validation loss, as in `Solve`."""

    def validated(self) -> dict[str, float]:
        self.refit()
        return super().validated()

    @clock.phase("train")
    def refit(self) -> None:
        """Give the head the best fit on the vectors of train; several processes take the first one's."""
        train, validation = self.data.dataset("train"), self.data.dataset("validation")
        (layer,) = self.step.model.head_layers()
        found, bias = self.vectors(train), layer.bias is not None
        scaling, labels = Scaling.of(found, bias), labels_of(train, train.examples)
        weights = weights_of(train, self.data.objective, labels.tolist(), self.settings.seed)
        scaled, theirs = scaling(found), scaling(self.vectors(validation))
        answers = labels_of(validation, validation.examples)
        tried: list[list[float]] = []
        best: Fit | None = None
        while (power := following(tried)) is not None:
            fitted = fit(scaled, labels.numpy(), 10.0**power, layer.out_features, weights, bias)
            loss = number(self.loss(fitted.logits(theirs), answers))
            if best is None or loss < min(known for _, known in tried):
                best = fitted
            tried.append([power, loss])
        assert best is not None
        self.put(layer, scaling.undone(best))

    def loss(self, logits: Array, labels: torch.Tensor) -> float:
        """The mean loss of these answers, (rows, outputs), as evaluation has it."""
        objective = self.data.objective.eval()
        batch = {"labels": labels_tensor(labels.tolist())}
        return float(objective.loss(torch.from_numpy(logits), batch).sum) / objective.count([batch])

    def put(self, layer: Any, found: Fit) -> None:
        with torch.no_grad():
            for parameter, values in ((layer.weight, found.weights), (layer.bias, found.biases)):
                if parameter is not None:
                    parameter.copy_(torch.from_numpy(values))
                    if self.accelerator.num_processes > 1:
                        torch.distributed.broadcast(parameter.data, 0)

    def vectors(self, dataset: Dataset) -> Array:
        """What the head reads of each example, (rows, width)."""
        site = learnt(self.step.model, dataset, self.accelerator)
        found: Array = unkept(dataset, site, self.accelerator).double().numpy()
        return found
