"""Tokens to predict, given to the network by their places in a batch, which the host knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.models.device import onto
from ftrun.tasks.objective import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.tasks.dataset import Batch


class AtPositions(Objective, capturable=True):
    """The network answers at the positions of a batch that has them, at all tokens otherwise."""

    def inputs(self, inputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        if "positions" not in batch:
            return inputs
        return inputs | {"positions": onto(batch["positions"], inputs["input_ids"].device)}


def positions_of(chosen: Tensor) -> Tensor:
    """Of booleans (batch, length) the places of the True ones, (chosen,), counted through all rows.

    A GPU would have to be waited for to know how many there are.
    """
    return chosen.flatten().nonzero().squeeze(1)


def positions_in(batch: Batch) -> Any:
    """One target for each chosen position."""
    return len(batch["positions"])
