"""What every strategy promises: which weights of the network may move."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftrun.models import Model


@dataclass
class Strategy(ABC):
    """One way to fine-tune. Its fields are the settings of its YAML file; a wrong value is a ConfigError."""

    @abstractmethod
    def prepare(self, model: Model) -> None:
        """Freeze, wrap or add weights; called once, after loading and before the optimizer exists.

        Afterwards `requires_grad` says of every parameter whether it trains. Everything random in here draws
        from torch's global generator, which the caller has seeded from the stream "init".
        """
