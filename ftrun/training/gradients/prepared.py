"""The micro-batches of a step, of which those of the next are made while the device computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ftrun.tasks.dataset import windows_of
from ftrun.tasks.placing import placed
from ftrun.training.gradients.graphs import MULTIPLE

if TYPE_CHECKING:
    from ftrun.tasks.dataset import Batch, Dataset, Draw
    from ftrun.training.kept.kept import Kept

MULTIPLES = {"cuda": MULTIPLE}  # of tokens, to which batches are padded on a kind of device


@dataclass
class Prepared:
    """The micro-batches of a step, in the memory of the host and on the device."""

    asked: tuple[list[int], Draw, int]  # rows, where training has come to, windows of a micro-batch
    host: list[Batch]
    batches: list[Batch]
    tokens: int
    padded: int  # tokens with their padding


class Batches:
    """Makes the micro-batches of steps from the training split."""

    def __init__(self, dataset: Dataset, kept: Kept, device: torch.device) -> None:
        self.dataset = dataset.of(dataset.examples, MULTIPLES.get(device.type, 1))
        self.kept, self.device = kept, device
        self.upcoming: list[int] | None = None  # the rows of the next step, where it is of the same epoch
        self._ready: Prepared | None = None

    def of(self, rows: list[int], draw: Draw, size: int) -> Prepared:
        """The micro-batches of a step, unless they are those that were prepared in the step before."""
        asked = (rows, draw, size)
        ready, self._ready = self._ready, None
        if ready is not None and ready.asked == asked:
            return ready
        examples = windows_of([self.dataset[row] for row in rows])
        parts = [examples[start : start + size] for start in range(0, len(examples), size)]
        host = [self.kept.into(self.dataset.collate(part, draw), part) for part in parts]
        ids = [batch["inputs"]["input_ids"] for batch in host if "input_ids" in batch["inputs"]]
        return Prepared(
            asked,
            host,
            [placed(batch, self.device) for batch in host],
            sum(example.size for example in examples),
            sum(each.numel() for each in ids) if ids else len(rows),
        )

    def ahead(self, draw: Draw, size: int, process: int, processes: int) -> None:
        """Prepare those of the step after `draw`, where it is of the same epoch."""
        if self.upcoming is not None:
            rows = share(self.upcoming, process, processes)
            self._ready = self.of(rows, draw._replace(step=draw.step + 1), size)

    def forget(self) -> None:
        """What was prepared holds no longer."""
        self._ready = None


def share(rows: list[int], process: int, processes: int) -> list[int]:
    """The rows of one process, or one row that is computed with weight zero."""
    return rows[process::processes] or rows[:1]


def share_of(whole: float, count: float | torch.Tensor) -> float | torch.Tensor:
    """By what a summed loss is multiplied; on the device in fp32, as a number is that multiplies fp32."""
    if isinstance(count, torch.Tensor):
        return (whole / torch.where(count == 0, 1, count)).float()
    return whole / (count or 1)
