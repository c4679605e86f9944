"""A run's network without its LoRA, to which low-rank updates are added at any weights, again and again."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ftrun.errors import ConfigError
from ftrun.experiments.lora.lowrank import Factors, Update, bare
from ftrun.models.heads import Pooled, backbone_of
from ftrun.models.sentences import longest, read_head
from ftrun.runs.artifacts import LORA_WEIGHTS


class Blend:
    """A network whose weights can be set to W₀ + Σ wᵢ·sᵢ·BᵢAᵢ again and again; the products are kept."""

    def __init__(self, net: nn.Module, updates: list[Factors]) -> None:
        from transformers.pytorch_utils import Conv1D

        self.net = net
        names = dict.fromkeys(name for factors in updates for name in factors)
        layers = {name: backbone_of(net).get_submodule(name) for name in names}
        self.weights: dict[str, Any] = {name: layer.weight for name, layer in layers.items()}
        self.start = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.products = [
            {
                name: (b @ a).T if isinstance(layers[name], Conv1D) else (b @ a).view_as(self.start[name])
                for name, (a, b) in factors.items()
            }
            for factors in updates
        ]

    @torch.no_grad()
    def set(self, weights: list[float]) -> None:
        """Always from W₀, so that no rounding piles up."""
        for name, weight in self.weights.items():
            total = self.start[name].clone()
            for share, products in zip(weights, self.products, strict=True):
                if name in products:
                    total += share * products[name]
            weight.copy_(total)


def with_head(update: Update) -> nn.Module:
    """The base network with the head that the run trained, and without its update."""
    net = bare(update.run, update.settings)
    _, strange = net.load_state_dict(update.head, strict=False)
    if strange:
        raise ConfigError(f"{update.run.path} is damaged: model/{LORA_WEIGHTS} does not fit: {strange[0]}")
    pooling = getattr(net.config, "ftrun_pooling", None)
    if pooling:
        place = update.run.model_dir
        net = Pooled(net, pooling, net.config.num_labels, longest(place))
        read_head(net, place)
    return net.eval()
