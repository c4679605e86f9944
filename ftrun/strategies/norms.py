"""Norm tuning: only the normalisation layers and the head learn (Lu et al. 2021; Frankle et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models import Model


@dataclass
class Norms(Strategy):
    """Train the weights and biases of every normalisation layer, and the head."""

    def prepare(self, model: Model) -> None:
        head = {name for name, _ in model.head_parameters()}
        norms = model.norms()
        if not norms - head:
            raise ConfigError(
                f"strategy=norms trains normalisation layers, but {model.source} has none with weights"
                " below its head"
            )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in norms | head)
