"""What this package alone puts into a frozen network: how it is named on the disk and put back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from ftrun.errors import ConfigError


class Beside(ABC):
    """A dataclass of what `adapter.json` stores beside the name of the checkpoint."""

    kind: ClassVar[str]  # in that file
    mark: ClassVar[str]  # in the names of its weights

    @property
    def front(self) -> int:
        """How many vectors it has in front of those of a text's own tokens, between the layers."""
        return 0

    @abstractmethod
    def attach(self, model: Any) -> None:
        """Put its weights, which are random, into the network; ConfigError where there is no place."""


def train(model: Any, own: Beside, more: frozenset[str] = frozenset()) -> None:
    """Freeze the network of a Model, attach, and train what was attached, the head and the named weights."""
    model.requires_grad_(False)
    model.adapter = own
    own.attach(model)
    trained = {name for name, _ in model.head_parameters()} | more
    for name, parameter in model.named_parameters():
        if name in trained or own.mark in name:
            parameter.requires_grad_(True)


def refuse_random(strategy: str, model: Any) -> None:
    """ConfigError for a network without pretrained weights, which could not be put back under its vectors."""
    if model.source is None:
        raise ConfigError(f"strategy={strategy} keeps a pretrained network, but model.init=random has none")
