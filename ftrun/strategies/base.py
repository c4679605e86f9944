"""What every strategy promises: which weights of the network may move, and when."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftrun.models import Model
    from ftrun.state import Course


@dataclass
class Strategy(ABC):
    """One way to fine-tune. Its fields are the settings of its YAML file; a wrong value is a ConfigError."""

    @abstractmethod
    def prepare(self, model: Model) -> None:
        """Freeze, wrap or add weights; called once, after loading and before the optimizer exists.

        Afterwards `requires_grad` says of every parameter whether it trains. Everything random in here draws
        from torch's global generator, which the caller has seeded from the stream "init".
        """

    def opens(self, stage: int, course: Course) -> int:
        """The optimizer step from which a stage trains; until then it is frozen, without optimizer state."""
        return 0

    def rate(self, stage: int, step: int, course: Course) -> float:
        """The learning rate of an open stage at an optimizer step, before `train.layer_decay`."""
        return course.rate(step)
