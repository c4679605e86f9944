"""Which of the weights that a strategy trains have a part in what the network answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ftrun.errors import ConfigError, counted
from ftrun.tasks.objective import outputs_of
from ftrun.training.evaluate import evaluating

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.tasks.data import TaskData

ROWS = 2
SHOWN = 3
ROUTED = "expert"  # which of them are reached is another question for every batch


def freeze_unreached(model: Model, data: TaskData, strategy: str) -> str | None:
    """Freeze every trained weight on which no output depends, and say which; None where there is none.

    So are DINOv2's token for masked patches, and Longformer's projections of global attention where no token
    has it. They would stay as they are in any case, but for weight decay. Raises ConfigError where nothing
    else would train.
    """
    trained = {name: weight for name, weight in model.trained().items() if ROUTED not in name}
    reached = reached_by(model, data, list(trained.values()))
    idle = [name for (name, _), found in zip(trained.items(), reached, strict=True) if not found]
    if not idle:
        return None
    names = ", ".join(name.removeprefix("net.") for name in idle[:SHOWN])
    more = f" and {len(idle) - SHOWN:,} more" if len(idle) > SHOWN else ""
    for name in idle:
        trained[name].requires_grad_(False)
    if not model.trained():
        raise ConfigError(
            f"strategy={strategy} trains only weights of {model.name} that no loss reaches: {names}{more}"
        )
    return f"frozen, since no loss reaches {counted(len(idle), 'weight')}: {names}{more}"


def reached_by(model: Model, data: TaskData, weights: list[torch.nn.Parameter]) -> list[bool]:
    """Whether the outputs for the first rows of train depend on each of these weights."""
    train, training = data.dataset("train"), model.training
    batch = train.collate([train[row % len(train)] for row in range(ROWS)])
    model.train()  # which drops what a network has cached
    with evaluating(model, data.objective), torch.enable_grad():
        found = outputs_of(model, data.objective, batch)
        whole = sum(part.float().sum() for part in ([found] if isinstance(found, Tensor) else found))
        given = torch.autograd.grad(whole, weights, allow_unused=True) if whole.requires_grad else []
    model.train(training)
    return [gradient is not None for gradient in given] or [False] * len(weights)
