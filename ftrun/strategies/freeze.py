"""Layer freezing: some layers stay as pretrained, the rest and the head train (Howard & Ruder 2018)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, counted
from ftrun.settings.patterns import compiled, matching, plain
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model

MIDDLE = "middle"
NUMBERS = re.compile(r"[\d\s,.-]*")  # a list or a range that is spelt wrong is no pattern


@dataclass
class Freeze(Strategy):
    """Freeze the embeddings and the lowest `bottom` layers, exactly the `layers` named, or all but `trained`.

    `layers=middle` freezes the middle half: of L layers those from ⌊L/4⌋ to L-1-⌊L/4⌋. Embeddings, bottom,
    top and head then train: the bottom for inputs unlike the pretraining's, the top for the task. `layers`
    may be a regular expression over names of weights, as `trained` is; the head trains whatever they say.
    """

    bottom: int  # embeddings and this many layers
    layers: Any  # instead, counted from 0: [4,5,6], 4-7, middle, or a pattern; the embeddings then train
    trained: str | None  # instead, a pattern

    def __post_init__(self) -> None:
        if self.bottom < 0:
            raise ConfigError(f"strategy=freeze: bottom is at least 0, not {self.bottom}")
        if self.layers is not None and self.trained is not None:
            raise ConfigError(
                f"strategy=freeze: layers={self.layers} says what is frozen, and trained={self.trained} what"
                " is not; give one of them"
            )
        if self.trained is not None:
            compiled("trained", self.trained)
        elif self.by_pattern:
            compiled("layers", self.layers)
        elif self.layers is not None and self.layers != MIDDLE:
            named_layers(self.layers)

    @property
    def by_pattern(self) -> bool:
        """Whether `layers` is a regular expression: a word that is not middle, and not of numbers."""
        return isinstance(self.layers, str) and self.layers != MIDDLE and not NUMBERS.fullmatch(self.layers)

    def frozen_stages(self, depth: int) -> set[int]:
        """Stages of a network of `depth` layers: 0 is the embeddings, i + 1 the layer i."""
        if self.layers is None:
            if self.bottom > depth:
                raise ConfigError(
                    f"strategy=freeze: bottom={self.bottom}, but this network has {counted(depth, 'layer')}"
                )
            return set(range(self.bottom + 1))
        layers = middle(depth) if self.layers == MIDDLE else named_layers(self.layers)
        if max(layers) >= depth:
            raise ConfigError(
                f"strategy=freeze: layers={self.layers}, but this network has the layers 0 to {depth - 1}"
            )
        return {layer + 1 for layer in layers}

    def frozen(self, model: Model) -> set[str]:
        """The names of the weights that are frozen; ConfigError where the network has none such."""
        names = [name for name, _ in model.named_parameters()]
        if self.trained is None and not self.by_pattern:
            stages = self.frozen_stages(model.depth)
            return {name for name in names if model.stage_of(name) in stages}
        head = {name for name, _ in model.head_parameters()}
        if self.trained is not None:
            return {*names} - matching("trained", self.trained, names) - head
        found = matching("layers", self.layers, names, [MIDDLE])
        if found & head:
            raise ConfigError(
                f"strategy=freeze: layers={self.layers} is found in {plain(min(found & head))}, a weight of"
                " the head, which always trains"
            )
        if found == {*names}:
            raise ConfigError(
                f"strategy=freeze: layers={self.layers} is found in every weight; none would train"
            )
        return found

    def fits(self, model: Model) -> None:
        self.frozen(model)

    def prepare(self, model: Model) -> None:
        frozen = self.frozen(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)


def middle(depth: int) -> list[int]:
    """The middle half of `depth` layers; ConfigError below 4 layers, where it would be all of them."""
    edge = depth // 4
    if not edge:
        raise ConfigError(
            f"strategy=freeze: layers=middle keeps a quarter at either end in training, "
            f"but this network has {counted(depth, 'layer')}; it takes 4"
        )
    return list(range(edge, depth - edge))


def named_layers(value: Any) -> list[int]:
    """The layers of a list or a range like "4-7" (both ends included); ConfigError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, str):
        bounds = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", value)
        if bounds and int(bounds[1]) <= int(bounds[2]):
            return list(range(int(bounds[1]), int(bounds[2]) + 1))
    elif isinstance(value, list) and value and all(type(layer) is int and layer >= 0 for layer in value):
        return sorted(set(value))
    raise ConfigError(
        "strategy=freeze: layers is a list of layers such as [4,5,6], a range such as 4-7, middle, or a"
        f" regular expression over names of weights, not {value}"
    )
