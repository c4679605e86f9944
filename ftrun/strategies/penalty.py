"""A quadratic pull of weights towards an anchor, in the loss or as a proximal step after the optimizer's.

The penalty is ½ Σ sᵢ (θᵢ − θ*ᵢ)². Its proximal step at rate lr is θ ← (θ + kθ*) / (1 + k) with k = lr·s.
That is stable at any strength, where the gradient of the penalty diverges once lr·s exceeds 2, and under Adam
it stays as unequal as s is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ftrun.models.model import Model

SAMPLED = 100_000  # weights, about, by which the strength of a hold is estimated


@dataclass
class Anchor:
    """Weights themselves, by name: where they are pulled to and how strongly, per weight or one for all."""

    parameters: dict[str, nn.Parameter]
    targets: dict[str, Tensor]
    strengths: dict[str, Tensor | float]

    @torch.no_grad()
    def pull(self, rates: dict[str, float]) -> None:
        """The proximal step at each weight's learning rate."""
        for name, parameter in self.parameters.items():
            rate, strength = rates[name], self.strengths[name]
            if rate <= 0:
                continue
            if isinstance(strength, Tensor):
                weight = strength / (strength + 1 / rate)
                parameter.lerp_(self.targets[name], weight)
            elif strength > 0:
                parameter.lerp_(self.targets[name], strength / (strength + 1 / rate))

    @torch.no_grad()
    def share_undone(self, lr_sum: float) -> Tensor:
        """The share of an initial move that a whole run undoes, for a sample of the weights, (sampled,).

        `lr_sum` is the sum of all learning rates: the steps' product of 1/(1 + k) is about exp(−s·lr_sum).
        """
        sizes = {name: target.numel() for name, target in self.targets.items()}
        return -torch.expm1(-lr_sum * sampled(self.strengths, sizes))

    @torch.no_grad()
    def add_gradient(self) -> None:
        """The gradient of the penalty, s(θ − θ*), on top of the loss's."""
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                parameter.grad += self.strengths[name] * (parameter - self.targets[name])

    @torch.no_grad()
    def penalty(self) -> float:
        """½ Σ s (θ − θ*)² as it now is."""
        return sum(
            0.5 * float((self.strengths[name] * (parameter - self.targets[name]) ** 2).sum())
            for name, parameter in self.parameters.items()
        )


@dataclass
class Update:
    """One low-rank layer: its factors, and what it adds to the weight at its side.

    Of a convolution A is one as well, with the kernel of the weight, and B one of size 1: their product over
    flattened kernels is the update.
    """

    down: nn.Parameter  # A, (rank, in, *kernel)
    up: nn.Parameter  # B, (out, rank), of a convolution (out, rank, 1, …)
    scale: float
    transposed: bool  # the weight stands as (in, out), as in Conv1D
    first: Tensor = field(init=False)  # scale·B·A at the start; not zero with variant=pissa

    def __post_init__(self) -> None:
        self.first = torch.zeros(())
        self.first = self.delta().detach().clone()

    def delta(self) -> Tensor:
        """How far the effective weight has moved, in the weight's own shape."""
        product = self.scale * (self.up.flatten(1) @ self.down.flatten(1))
        whole = product.T if self.transposed else product.view(len(self.up), *self.down.shape[1:])
        return whole - self.first

    def pace(self) -> float:
        """How fast ½(ΔW)² undoes ΔW by its gradient on B, at a rate of one: scale² · |a|² of A's rows."""
        return float(self.scale**2 * self.down.detach().double().flatten(1).square().sum(1).mean())


@dataclass
class UpdateAnchor:
    """Low-rank updates, pulled to nothing: the penalty is ½ Σ s (ΔW)² on the weight that each one moves."""

    updates: dict[str, Update]  # by the name of the weight beside it
    strengths: dict[str, Tensor | float]

    def add_gradient(self) -> None:
        """The gradient of the penalty with respect to A and B, on top of the loss's."""
        for name, update in self.updates.items():
            with torch.enable_grad():
                value = 0.5 * (self.strengths[name] * update.delta() ** 2).sum()
                gradients = torch.autograd.grad(value, [update.down, update.up])
            for parameter, gradient in zip((update.down, update.up), gradients, strict=True):
                if parameter.grad is not None:
                    parameter.grad += gradient

    @torch.no_grad()
    def penalty(self) -> float:
        """½ Σ s (ΔW)² as it now is."""
        return sum(
            0.5 * float((self.strengths[name] * update.delta() ** 2).sum())
            for name, update in self.updates.items()
        )


def sampled(strengths: dict[str, Tensor | float], sizes: dict[str, int]) -> Tensor:
    """The strengths of an even sample of the weights, of which each name has so many, (sampled,)."""
    stride = max(1, sum(sizes[name] for name in strengths) // SAMPLED)
    parts = [
        s.flatten()[::stride] if isinstance(s, Tensor) else torch.full((-(-sizes[name] // stride),), s)
        for name, s in strengths.items()
    ]
    return torch.cat([part.double().cpu() for part in parts])


def updates_of(model: Model) -> dict[str, Update]:
    """The low-rank layers of a network, by the name of the weight that each one moves."""
    from peft.tuners.lora.layer import LoraLayer

    return {
        f"{name}.base_layer.weight": Update(
            module.lora_A["default"].weight,
            module.lora_B["default"].weight,
            module.scaling["default"],
            bool(getattr(module, "fan_in_fan_out", False)),
        )
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
