"""What a network learns before its run or beside it: a source, a pre-training, a domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftrun.errors import ConfigError
from ftrun.settings.checks import finite, mapping
from ftrun.settings.protocols import Task


@dataclass
class Source:
    """What the model learned before: its pre-training, a finished run, or a task to train first."""

    kind: str  # pretraining | run | task
    run: str  # the run's directory
    node: dict[str, Any]  # the settings of the task to train first
    task: Task | None  # the pre-training task


@dataclass
class Domain:
    """A domain: text on which a second LoRA is trained, and labelled rows."""

    text: Any  # the task of modelling the domain's text, as a node
    rows: str | list[str] | None
    test: str | list[str] | None
    columns: list[str] | None
    weights: list[float]
    train: Any  # settings of train that differ for this text

    def __post_init__(self) -> None:
        mapping("compose.text", self.text)
        mapping("compose.train", self.train)
        if self.rows is None:
            raise ConfigError(
                "compose.rows is not set; it takes labelled rows of the domain: compose.rows=FILE"
            )
        if len(self.weights) != 2:
            raise ConfigError(
                f"compose.weights is a list of two numbers, for task and domain, not {self.weights}"
            )
        for weight in self.weights:
            finite("compose.weights", weight)


@dataclass
class Pretrain:
    """A training of random weights that comes first."""

    task: Any  # as a node
    train: Any  # settings of train that differ
    seed: int
    directory: str | None

    def __post_init__(self) -> None:
        mapping("pretrain.task", self.task)
        mapping("pretrain.train", self.train)
