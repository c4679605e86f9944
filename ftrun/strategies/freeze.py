"""Layer freezing: some layers stay as pretrained, the rest and the head train (Howard & Ruder 2018, section 3.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models import Model


@dataclass
class Freeze(Strategy):
    """Freeze the embeddings and the lowest `bottom` layers, or exactly the `layers` named."""

    bottom: int | None  # embeddings and this many layers
    layers: Any  # a list such as [4,5,6] or a range such as 4-7, counted from 0; the embeddings then train

    def __post_init__(self) -> None:
        if (self.bottom is None) == (self.layers is None):
            raise ConfigError(
                f"strategy=freeze takes either bottom= or layers=, not bottom={self.bottom} layers={self.layers}"
            )
        if self.bottom is not None and self.bottom < 0:
            raise ConfigError(f"strategy=freeze: bottom is at least 0, not {self.bottom}")
        if self.layers is not None:
            named_layers(self.layers)

    def prepare(self, model: Model) -> None:
        depth = model.depth
        if self.bottom is not None:
            if self.bottom > depth:
                raise ConfigError(f"strategy=freeze: bottom={self.bottom}, but this network has {depth} layers")
            frozen = set(range(self.bottom + 1))
        else:
            layers = named_layers(self.layers)
            outside = [layer for layer in layers if layer >= depth]
            if outside:
                raise ConfigError(
                    f"strategy=freeze: layers={self.layers}, but this network has the layers 0 to {depth - 1}"
                )
            frozen = {layer + 1 for layer in layers}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(model.stage_of(name) not in frozen)


def named_layers(value: Any) -> list[int]:
    """The layers meant by a list or a range like "4-7" (both ends included); ConfigError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, str):
        bounds = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", value)
        if bounds and int(bounds[1]) <= int(bounds[2]):
            return list(range(int(bounds[1]), int(bounds[2]) + 1))
    elif isinstance(value, list) and value and all(type(layer) is int and layer >= 0 for layer in value):
        return sorted(set(value))
    raise ConfigError(
        f"strategy=freeze: layers is a list of layers such as [4,5,6] or a range such as 4-7, not {value}"
    )
