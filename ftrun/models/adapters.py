"""Bottleneck adapters: small layers behind linear ones, near the identity at first (Houlsby et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ftrun.models.adapted.beside import Beside
from ftrun.models.layers import output_layers

if TYPE_CHECKING:
    from ftrun.models.model import Model

STD = 1e-3  # of the weights at the start, as in the code of Houlsby et al. 2019


class Bottleneck(nn.Module):
    """h + W_up·act(W_down·h + b_down) + b_up on the last dimension (Houlsby et al. 2019, section 2.1).

    Both matrices start as normal draws of deviation 1e-3, cut at two deviations, and the biases at zero.
    """

    def __init__(self, width: int, bottleneck: int, activation: str, like: Tensor) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(bottleneck, width, device=like.device, dtype=like.dtype)
        self.activation = activation
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=STD, a=-2 * STD, b=2 * STD)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        activation = getattr(torch.nn.functional, self.activation)
        return hidden + self.up(activation(self.down(hidden)))


class Adapted(nn.Linear):
    """A linear layer with an adapter behind it; its own weights are the same ones under the same names."""

    def __init__(self, dense: nn.Linear, bottleneck: int, activation: str) -> None:
        super().__init__(dense.in_features, dense.out_features, dense.bias is not None, device="meta")
        self.weight, self.bias = dense.weight, dense.bias
        self.adapter = Bottleneck(dense.out_features, bottleneck, activation, dense.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.adapter(super().forward(hidden))


class AdaptedConv1D(Conv1D):
    """The same behind GPT-2's linear layer, whose weight is (in, out)."""

    def __init__(self, dense: Conv1D, bottleneck: int, activation: str) -> None:
        nn.Module.__init__(self)
        self.nx, self.nf = dense.nx, dense.nf
        self.weight, self.bias = dense.weight, dense.bias
        self.adapter = Bottleneck(dense.nf, bottleneck, activation, dense.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.adapter(super().forward(hidden))


@dataclass
class Adapters(Beside):
    """An adapter behind the last linear layer of every block, before the residual is added.

    houlsby: of attention and feed-forward blocks (Houlsby et al. 2019); pfeiffer: of feed-forward blocks
    alone (Pfeiffer et al. 2021).
    """

    kind: ClassVar[str] = "bottlenecks"
    mark: ClassVar[str] = ".adapter."

    placement: str
    bottleneck: int
    activation: str

    def attach(self, model: Model) -> None:
        net = model.net
        for name in output_layers(model, self.placement):
            dense = net.get_submodule(name)
            kind = AdaptedConv1D if isinstance(dense, Conv1D) else Adapted
            net.set_submodule(name, kind(dense, self.bottleneck, self.activation))
