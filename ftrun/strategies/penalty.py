"""A quadratic pull of weights towards an anchor, in the loss or as a proximal step after the optimizer's.

The penalty is ½ Σ sᵢ (θᵢ − θ*ᵢ)². Its proximal step at rate lr is θ ← (θ + kθ*) / (1 + k) with k = lr·s.
That is stable at any strength, where the gradient of the penalty diverges once lr·s exceeds 2, and under Adam
it stays as unequal as s is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ftrun.models.split import is_split, own, part_of, rows_of, summed, whole

if TYPE_CHECKING:
    from ftrun.models.model import Model

SAMPLED = 100_000  # weights, about, by which the strength of a hold is estimated


@dataclass
class Anchor:
    """Weights themselves, by name: where they are pulled to and how strongly, per weight or one for all.

    Of weights that are split over processes, targets and strengths are those of this process's rows.
    """

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
                own(parameter).lerp_(self.targets[name], weight)
            elif strength > 0:
                own(parameter).lerp_(self.targets[name], strength / (strength + 1 / rate))

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
                own(parameter.grad).add_(self.strengths[name] * (own(parameter) - self.targets[name]))

    @torch.no_grad()
    def penalty(self) -> float:
        """½ Σ s (θ − θ*)² as it now is."""
        found = sum(
            0.5 * float((self.strengths[name] * (own(parameter) - self.targets[name]) ** 2).sum())
            for name, parameter in self.parameters.items()
        )
        return over_processes(found, self.parameters.values())


@dataclass
class Update:
    """One low-rank layer: its factors, and what it adds to the weight at its side.

    Of a convolution A is one as well, with the kernel of the weight, and B one of size 1: their product over
    flattened kernels is the update. Where the factors are split over processes, this one's rows of B give its
    rows of the update, which stand as columns in `transposed`.
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
        return self.between(whole(self.down), own(self.up))

    def between(self, down: Tensor, up: Tensor) -> Tensor:
        """The same for these factors."""
        product = self.scale * (up.flatten(1) @ down.flatten(1))
        moved = product.T if self.transposed else product.view(len(up), *down.shape[1:])
        return moved - self.first

    def gradients(self, strength: Tensor | float) -> tuple[Tensor, Tensor]:
        """Of ½ Σ s (ΔW)² with respect to this process's rows of A and of B."""
        down, up = (value.detach().requires_grad_() for value in (whole(self.down), own(self.up)))
        with torch.enable_grad():
            value = 0.5 * (strength * self.between(down, up) ** 2).sum()
            to_down, to_up = torch.autograd.grad(value, [down, up])
        return part_of(summed(to_down, self.down), self.down), to_up

    def part(self, strength: Tensor | float) -> Tensor | float:
        """Of strengths in the shape of the weight those of this process's rows."""
        if not (isinstance(strength, Tensor) and is_split(self.up)):
            return strength
        rows = rows_of(self.up)
        return (strength[:, rows] if self.transposed else strength[rows]).clone()

    def pace(self) -> float:
        """How fast ½(ΔW)² undoes ΔW by its gradient on B, at a rate of one: scale² · |a|² of A's rows."""
        return float(self.scale**2 * whole(self.down).detach().double().flatten(1).square().sum(1).mean())


@dataclass
class UpdateAnchor:
    """Low-rank updates, pulled to nothing: the penalty is ½ Σ s (ΔW)² on the weight that each one moves."""

    updates: dict[str, Update]  # by the name of the weight beside it
    strengths: dict[str, Tensor | float]

    def add_gradient(self) -> None:
        """The gradient of the penalty with respect to A and B, on top of the loss's."""
        for name, update in self.updates.items():
            gradients = update.gradients(self.strengths[name])
            for parameter, gradient in zip((update.down, update.up), gradients, strict=True):
                if parameter.grad is not None:
                    own(parameter.grad).add_(gradient)

    @torch.no_grad()
    def penalty(self) -> float:
        """½ Σ s (ΔW)² as it now is."""
        found = sum(
            0.5 * float((self.strengths[name] * update.delta() ** 2).sum())
            for name, update in self.updates.items()
        )
        return over_processes(found, [update.up for update in self.updates.values()])


def over_processes(value: float, weights: Iterable[nn.Parameter]) -> float:
    """The sum of what each process has found on its rows; the value itself where the weights are whole."""
    some = next(iter(weights), None)
    if some is None or not is_split(some):
        return value
    return float(summed(torch.tensor(value, dtype=torch.float64, device=some.device), some))


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
