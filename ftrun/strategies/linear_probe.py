"""Linear probe: only the head learns, on the backbone's features as they came (Alain & Bengio 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.errors import ConfigError
from ftrun.settings.checks import one_of
from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings


@dataclass
class LinearProbe(Strategy):
    """Train what the checkpoint did not bring: the head, and nothing that was pretrained.

    A head of one linear layer is solved for where its loss allows it (`solver`), else trained by steps.
    """

    pace: ClassVar[Pace] = Pace(fixed_rate=1e-2, steps=2.0)  # a linear layer on fixed features

    needs_new_head: ClassVar[bool] = True

    solver: str

    def __post_init__(self) -> None:
        one_of("solver", self.solver, ["auto", "lbfgs", "adamw"])

    @property
    def solved(self) -> bool:
        return self.solver == "lbfgs"

    def chosen(self, settings: Settings, model: Model) -> tuple[dict[str, Any], str]:
        """lbfgs where the best head is a regression on one fixed vector of each example, else adamw."""
        why_not = unsolvable(settings, model) if self.solver != "adamw" else ""
        if self.solver == "lbfgs" and why_not:
            raise ConfigError(f"solver=lbfgs: {why_not}; possible: solver=adamw")
        if self.solver != "auto":
            return {}, ""
        if why_not:
            return {"solver": "adamw"}, f"solver: adamw, since {why_not}"
        return {"solver": "lbfgs"}, "solver: lbfgs, since the head is one linear layer on fixed features"

    def prepare(self, model: Model) -> None:
        model.requires_grad_(False)
        for _, parameter in model.head_parameters():
            parameter.requires_grad_(True)


def unsolvable(settings: Settings, model: Model) -> str:
    """Why the head cannot be solved for, in words; empty where it can."""
    if not settings.task.spec(None).regression:
        return f"task={settings.task.name} does not make one fixed vector with one target of each example"
    if settings.streamed:
        return "task.stream=true does not hold a vector of each training row in memory"
    if settings.protect is not None:
        return "protect= acts in optimizer steps"
    if settings.source is not None and settings.scenario != "task":
        return f"scenario={settings.scenario} goes on with the head of the earlier task"
    from ftrun.models.features.head_input import unlike_one_layer

    return unlike_one_layer(model)
