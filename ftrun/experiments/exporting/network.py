"""A run's network as exporters take it: named tensors in, one tensor of logits out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from ftrun.errors import ConfigError
from ftrun.experiments.lora.equivalence import COMPARED
from ftrun.models.architecture import IMAGES
from ftrun.models.load import positions
from ftrun.models.logits import logits_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ftrun.tasks.data import TaskData

ROWS, SIZE = 64, 8  # real rows that an exported network is compared on, at most, and those of a batch
TYPES = "token_type_ids"
TEXTS = ("input_ids", "attention_mask", TYPES)
PIXELS = "pixel_values"
Inputs = dict[str, Tensor]


class OfTexts(nn.Module):
    """Token ids in; logits (batch, labels), (batch, length, labels or tokens) or (batch, 2, length) out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        given = dict(zip(TEXTS, (input_ids, attention_mask, token_type_ids), strict=True))
        found: Tensor = logits_of(self.net, {name: each for name, each in given.items() if each is not None})
        return found


class OfImages(nn.Module):
    """Scaled pixels (batch, channels, height, width) in, logits (batch, labels) out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixel_values: Tensor) -> Tensor:
        found: Tensor = self.net(pixel_values=pixel_values).logits
        return found


@dataclass
class Exportable:
    """What is exported: the network, real inputs for it, and which of their sizes may change."""

    module: nn.Module
    config: Any
    batches: list[Inputs]  # of real rows, the sizes as they come
    rows: int

    @property
    def example(self) -> Inputs:
        """The batch that an exporter looks at: several rows of several tokens, which it takes no constant."""
        return max(self.batches, key=lambda batch: min(next(iter(batch.values())).shape[:2]))

    def shapes(self) -> dict[str, dict[int, Dim]]:
        """The sizes that may change, by input and dimension."""
        batch = Dim("batch", min=1)
        if PIXELS in self.example:
            return {PIXELS: {0: batch}}
        longest = positions(self.config)
        length = Dim("length", min=1, max=longest) if longest < 2**31 else Dim("length", min=1)
        return {name: {0: batch, 1: length} for name in self.example}


def exportable(net: nn.Module, config: Any, data: TaskData, auto_class: str) -> Exportable:
    """The network of a run with up to `ROWS` rows of its validation split."""
    kind = OfImages if auto_class == IMAGES else OfTexts
    batches = list(batches_of(data))
    if len(next(iter(batches[0].values()))) < 2:
        raise ConfigError("the validation split has one row; an export is made and proved with two or more")
    rows = sum(len(next(iter(batch.values()))) for batch in batches)
    return Exportable(kind(net).eval(), config, batches, rows)


def batches_of(data: TaskData) -> Iterator[Inputs]:
    """Batches of real rows, each with its own length; of packed texts every block as one text."""
    dataset = data.dataset(COMPARED)
    count = min(ROWS, len(dataset))
    for start in range(0, count, SIZE):
        some = [dataset[place] for place in range(start, min(start + SIZE, count))]
        inputs = dataset.collate(some)["inputs"]
        if PIXELS in inputs:
            yield {PIXELS: inputs[PIXELS]}
            continue
        mask = inputs.get("attention_mask")
        if mask is None or mask.ndim != 2:  # it keeps documents apart
            mask = (inputs["input_ids"] >= 0).long()
        given = inputs | {"attention_mask": mask.long()}
        if TYPES in data.processor.model_input_names:  # a single text has none in training, where all are 0
            given = {TYPES: torch.zeros_like(inputs["input_ids"])} | given
        yield {name: given[name] for name in TEXTS if name in given}
