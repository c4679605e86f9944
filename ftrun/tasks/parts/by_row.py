"""A loss in which every row counts once: of a long text, the mean over its windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ftrun.tasks.losses import Loss
from ftrun.tasks.objective import Objective, targets_of
from ftrun.tasks.parts.long_texts import SHARES

if TYPE_CHECKING:
    from ftrun.tasks.dataset import Batch


class ByRow(Objective):
    """The plain loss of each window with its row's label, times the window's share of the row.

    In evaluation, where a row's windows have one answer, the plain loss of this answer.
    """

    def __init__(self, plain: Objective) -> None:
        super().__init__(self._of_windows, self._counted)
        self.plain = plain

    def _of_windows(self, outputs: Any, batch: Batch) -> Loss:
        if SHARES not in batch:
            return self.plain.loss(outputs, batch)
        sums = [share * self.plain.loss(outputs[at], own).sum for share, at, own in by_share(batch)]
        return Loss(sum(sums[1:], sums[0]))

    def _counted(self, batch: Batch) -> float:
        if SHARES not in batch:
            return targets_of(self.plain, batch)
        return sum(share * targets_of(self.plain, own) for share, _, own in by_share(batch))


def by_share(batch: Batch) -> Iterator[tuple[float, list[int], Batch]]:
    """The windows with the same share in their row: this share, their places, and their labels."""
    shares = batch[SHARES]
    for share in sorted({*shares}):
        places = [at for at, own in enumerate(shares) if own == share]
        yield share, places, {"labels": batch["labels"][places]}
