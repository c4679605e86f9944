"""Pairs of labelled rows, alike or not, and the loss of their cosine (Tunstall et al. 2022, SetFit)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ftrun.models.device import onto
from ftrun.models.features.head_input import first_of_head
from ftrun.models.heads import Pooled
from ftrun.settings.seeds import stream
from ftrun.tasks.dataset import Batch, Dataset, Draw, Example
from ftrun.tasks.losses import Loss
from ftrun.tasks.objective import Objective

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model

SIDES = 3  # of a row's two pairs: itself, one that is alike, one that is not


class Pairs(Dataset):
    """Each row of a batch with two others of the split: one with its label, one without.

    They are drawn anew in every epoch. `whole` is the split; of two rows with several labels each, those are
    alike that share one, or have none. A row that is alone stands beside itself.
    """

    def __init__(self, whole: Dataset) -> None:
        super().__init__(whole.examples, whole.summary)
        self.whole = whole
        self.alike: dict[Hashable, tuple[list[int], list[int]]] = {}

    def epoch(self, seed: int, epoch: int) -> Sequence[int]:
        return self.whole.epoch(seed, epoch)

    def of(self, examples: Sequence[Example], multiple: int = 1) -> Dataset:
        other: Any = super().of(examples, multiple)
        other.whole = self.whole.of(self.whole.examples, multiple)
        return other

    @cached_property
    def places(self) -> dict[int, int]:
        """Of each row in the split."""
        return {example.row: place for place, example in enumerate(self.whole.examples)}

    def both(self, target: Hashable) -> tuple[list[int], list[int]]:
        """The places of the rows that are alike one with this target, and of the others."""
        if target not in self.alike:
            same: list[int] = []
            other: list[int] = []
            for place, example in enumerate(self.whole.examples):
                (same if alike(target, example.target) else other).append(place)
            self.alike[target] = same, other
        return self.alike[target]

    def partners(self, example: Example, draw: Draw) -> tuple[int, int | None]:
        """The places of the two others of a row; None where all rows are alike."""
        place = self.places[example.row]
        chance = Random(stream(draw.seed, "pairs", draw.epoch, example.row))
        same, other = self.both(example.target)
        drawn = chance.randrange(max(1, len(same) - 1))
        positive = same[drawn + (same[drawn] >= place)] if len(same) > 1 else place
        return positive, chance.choice(other) if other else None

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        """Inputs of 3 rows for each example, and `pairs`, (examples, 2): 1 for each pair that there is."""
        own = self.whole.collate(examples)
        if draw is None:
            return own
        rows, there = [], []
        for example in examples:
            positive, negative = self.partners(example, draw)
            rows += [example, self.whole[positive], example if negative is None else self.whole[negative]]
            there.append([1.0, float(negative is not None)])
        inputs = self.whole.collate(rows)["inputs"]
        return {"inputs": inputs, "labels": own["labels"], "pairs": torch.tensor(there), "draw": draw}


def alike(one: Any, other: Any) -> bool:
    """Whether two targets are the same, or have a label in common."""
    return one == other or (isinstance(one, tuple) and not set(one).isdisjoint(other))


class Cosine(Objective):
    """(cos(u, v) − y)² of the vectors below the head, y being 1 for two rows that are alike and 0 for others.

    The head, which is solved for, has a gradient of zero.
    """

    def __init__(self) -> None:
        super().__init__(self.paired, lambda batch: float(batch["pairs"].sum()))
        self.seen: list[Tensor] = []

    def setup(self, model: Model, accelerator: Accelerator) -> None:
        site = model.net.dropout if isinstance(model.net, Pooled) else first_of_head(model)
        site.register_forward_pre_hook(self.see)

    def see(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if self.training:
            self.seen[:] = given[:1]

    def vectors(self, batch: Batch) -> Tensor:
        """(examples, 3, width); of a head on every token the last token's."""
        value = self.seen.pop().float()
        if value.ndim == 3 and "attention_mask" in batch["inputs"]:
            ends = onto(batch["inputs"]["attention_mask"].sum(1), value.device) - 1
            value = value[torch.arange(len(value), device=value.device), ends]
        return value.flatten(1).unflatten(0, (-1, SIDES))

    def paired(self, outputs: Tensor, batch: Batch) -> Loss:
        first, *others = self.vectors(batch).unbind(1)
        found = torch.stack([cosine_similarity(first, other) for other in others], 1)
        wanted = onto(torch.tensor([1.0, 0.0]), found.device)
        errors = (found - wanted) ** 2 * onto(batch["pairs"], found.device)
        return Loss(errors.sum() + 0.0 * outputs.float().sum())
