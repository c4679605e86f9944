"""The diagonal of the Fisher information: how much a network's outputs depend on each of its weights."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ftrun.errors import DataError
from ftrun.runs.files import umask_mode
from ftrun.strategies.ewc.output_factors import LabelSampling
from ftrun.strategies.ewc.per_example import Hooks, split
from ftrun.strategies.ewc.squares import Sums

if TYPE_CHECKING:
    from pathlib import Path

Batch = dict[str, Any]
ABOUT = "about"  # the key of the metadata
CHECKED = 4  # examples of the first batch that are also done one by one
TOLERANCE = 1e-4  # of hooks against the loop, relative to a parameter's largest entry
FLOOR = 1e-4  # of the largest entry of all: below, a relative difference is rounding (keys' biases have none)


def estimate(
    model: nn.Module, batches: Iterable[Batch], names: Collection[str], *, kind: str, samples: int, seed: int
) -> dict[str, Tensor]:
    """F_i = 1/N Σ_n E_y[(∂ log p(y|x_n) / ∂θ_i)²] of the named parameters, in their shape, fp32, on the CPU.

    `model(**batch["inputs"])` gives the logits; every input has a row per example. (batch, classes): one
    answer per example. (batch, length, vocabulary): one at each position whose entry of `batch["labels"]`
    (batch, length) is not -100; an example's score is the gradient of the sum over its positions. Labels of
    0 and 1 in the shape of the logits (batch, labels) are an independent answer each, yes or no. One class
    is a regression under Gaussian noise of variance one, where the exact value is the squared gradient of
    the output. The sums of a network in fp64 stay in fp64. Nothing of the model changes. It must not run
    under autocast: half precision is no derivative to 1e-4, and the check at the start says so.

    kind: what stands for the expectation over y (Kunstner et al. 2019, arXiv:1905.12558; Martens 2020,
    arXiv:1412.1193; van de Ven 2025, arXiv:2502.11756, who compares them for elastic weight consolidation)
      exact      all classes, weighted by the network's own probabilities: no noise and no bias. A backward
                 pass for each class but one, by an eigen-factor of diag(p) - ppᵀ, the Fisher information of
                 the logits; for two classes that is √(p₀p₁) (z₁ - z₀). Independent answers take one each.
      sampled    `samples` labels per input from those probabilities, a backward pass each: unbiased, but
                 noisy, the more so the surer the network is, for then the rare labels carry the information.
                 The labels depend on `seed` and an example's running number, not on the batches.
      empirical  the true labels, one pass: biased, and not the Fisher information; as the network comes to
                 fit its labels it vanishes, while the Fisher information does not.
      auto       exact up to 20 classes, else sampled.
    The squares are of single examples: a squared mean gradient of a batch is another quantity.

    Raises KeyError for names the model does not have, ValueError for a kind that is unknown or impossible
    and for no batches, RuntimeError when the hooks disagree with a loop over the first 4 examples.
    """
    parameters = dict(model.named_parameters())
    if unknown := sorted(set(names) - set(parameters)):
        raise KeyError(f"the model has no parameters {', '.join(unknown)}")
    sampling = LabelSampling(kind, samples, seed)
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("no batches to estimate the Fisher information from")
    sums, number = zeros({name: parameters[name] for name in names}), 0
    with at_rest(model):
        some = cut(first, torch.arange(CHECKED) % size_of(first))  # twice the same, rather than only one
        estimator = Estimator(model, split(model, sums, moved(some, model)["inputs"]), sampling)
        estimator.check(sums, moved(cut(first, slice(CHECKED)), model))
        for batch in itertools.chain([first], batches):
            estimator.add(sums, moved(batch, model), number)
            number += size_of(batch)
    return {name: (total / number).cpu() for name, total in sums.items()}


@dataclass
class Estimator:
    """Adds the squared scores of batches to sums by parameter name; the model is `at_rest` meanwhile."""

    model: nn.Module
    layers: dict[nn.Module, dict[str, str]]  # what hooks see: layer → its name of a parameter → the full name
    sampling: LabelSampling

    def seen(self, sums: Sums) -> Sums:
        return {name: sums[name] for names in self.layers.values() for name in names.values()}

    def add(self, sums: Sums, batch: Batch, number: int) -> None:
        """`number` is the running number of the batch's first example."""
        seen = self.seen(sums)
        if seen:
            self.add_by_hooks(seen, batch, number)
        if rest := {name: total for name, total in sums.items() if name not in seen}:
            self.add_by_loop(rest, batch, number)

    def add_by_hooks(self, sums: Sums, batch: Batch, number: int) -> None:
        hooks = Hooks(self.layers, sums)
        with hooks.attached(size_of(batch)):
            logits = self.model(**batch["inputs"])
            factors = self.sampling.factors(logits.detach(), batch.get("labels"), number)
            for left in reversed(range(factors.count)):
                hooks.backward(logits, factors.draw(left), last=left == 0)

    def add_by_loop(self, sums: Sums, batch: Batch, number: int) -> None:
        """An ordinary backward pass per example and column, whatever the network does with a weight."""
        parameters = {name: value for name, value in self.model.named_parameters() if name in sums}
        for parameter in parameters.values():
            parameter.requires_grad_()
        for row in range(size_of(batch)):
            one = cut(batch, slice(row, row + 1))
            logits = self.model(**one["inputs"])
            factors = self.sampling.factors(logits.detach(), one.get("labels"), number + row)
            for left in reversed(range(factors.count if logits.requires_grad else 0)):
                gradients = torch.autograd.grad(
                    logits,
                    [*parameters.values()],
                    factors.draw(left),
                    retain_graph=left > 0,
                    allow_unused=True,
                )
                for total, gradient in zip(map(sums.get, parameters), gradients, strict=True):
                    if total is not None and gradient is not None:
                        total.add_(gradient.to(total.dtype).square_())
        for parameter in parameters.values():
            parameter.requires_grad_(False)

    def check(self, sums: Sums, batch: Batch) -> None:
        """Raise RuntimeError, naming the worst parameter, where hooks do not give what the loop gives."""
        found = {name: torch.zeros_like(total) for name, total in self.seen(sums).items()}
        right = {name: torch.zeros_like(total) for name, total in found.items()}
        if not found:
            return
        self.add_by_hooks(found, batch, 0)
        self.add_by_loop(right, batch, 0)
        largest = {name: float(total.max()) for name, total in right.items()}
        least = max(FLOOR * max(largest.values()), torch.finfo(torch.float32).tiny)
        off = {
            name: float((total - right[name]).abs().max()) / max(largest[name], least)
            for name, total in found.items()
        }
        worst = max(off, key=lambda name: (math.isnan(off[name]), off[name]))
        if not off[worst] <= TOLERANCE:  # also when it is not a number
            raise RuntimeError(
                f"squared gradients from hooks differ from those of single examples, most for {worst}: "
                f"off by {off[worst]:.1e} of its largest entry, more than {TOLERANCE:.0e}"
            )


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """In eval mode, every parameter frozen and autograd on; afterwards all as before."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    rounded = torch.backends.cudnn.allow_tf32  # convolutions of a GPU, otherwise with 10 bits of mantissa
    try:
        torch.backends.cudnn.allow_tf32 = False
        model.eval().requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = rounded
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def zeros(parameters: dict[str, nn.Parameter]) -> Sums:
    return {
        name: torch.zeros_like(value.data, dtype=torch.promote_types(value.dtype, torch.float32))
        for name, value in parameters.items()
    }


def size_of(batch: Batch) -> int:
    return len(next(iter(batch["inputs"].values())))


def cut(batch: Batch, rows: Tensor | slice) -> Batch:
    """Some examples of a batch."""
    inputs = {name: value[rows] for name, value in batch["inputs"].items()}
    return {"inputs": inputs} | ({"labels": batch["labels"][rows]} if "labels" in batch else {})


def moved(batch: Batch, model: nn.Module) -> Batch:
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
    return {"inputs": inputs} | ({"labels": batch["labels"].to(device)} if "labels" in batch else {})


def save(path: Path, fisher: dict[str, Tensor], about: dict[str, str]) -> None:
    """Write the estimate as safetensors and, beside it in the same file, what it was computed from."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(fisher, beside, metadata={ABOUT: json.dumps(about)})
        umask_mode(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The estimate, on the CPU, and what it was computed from; DataError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[ABOUT])
            return {name: file.get_tensor(name) for name in file.keys()}, about
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path} holds no Fisher information that ftrun saved: {error}") from error
