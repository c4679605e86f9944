"""Tokens to predict, given to the network by their places in a batch, which the host knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.models.device import onto
from ftrun.tasks.losses import IGNORED
from ftrun.tasks.objective import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.tasks.dataset import Batch

GRAIN = 32  # positions: their number is rounded up to a multiple, so that there are few


class AtPositions(Objective, capturable=True):
    """The network answers at the positions of a batch that has them, at all tokens otherwise."""

    def inputs(self, inputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        if "positions" not in batch:
            return inputs
        return inputs | {"positions": onto(batch["positions"], inputs["input_ids"].device)}


def positions_of(chosen: Tensor, rounded: bool = False) -> Tensor:
    """Of booleans (batch, length) the places of the True ones, (chosen,), counted through all rows.

    A GPU would have to be waited for to know how many there are. Where it is `rounded` up, by an eighth at
    most or to GRAIN, the first token of the batch, which is none of them, stands for those that are missing.
    """
    from torch.nn.functional import pad

    found = chosen.flatten().nonzero().squeeze(1)
    grain = max(GRAIN, 1 << (len(found) // GRAIN).bit_length() + 1) if rounded else 1
    return pad(found, (0, -len(found) % grain))


def positions_in(batch: Batch) -> Any:
    """One target for each token with a label."""
    return int((batch["labels"] != IGNORED).sum())
