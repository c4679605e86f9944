"""What each next token costs: from all logits, or over a large vocabulary by the network itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ftrun.models.device import onto
from ftrun.models.vocabulary import LARGE
from ftrun.tasks.objective import Objective

if TYPE_CHECKING:
    from ftrun.tasks.dataset import Batch


class LargeVocabulary(Objective):
    """The network is given the next tokens, and answers what they cost, (batch, length), and no logits."""

    words = LARGE  # from here on

    def inputs(self, inputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        return inputs | {"targets": onto(batch["labels"], inputs["input_ids"].device)}


def surprise(outputs: Tensor, batch: Batch) -> Tensor:
    """-log p of every label, (batch, length), zero where there is none; an evaluation computes it once.

    Outputs are logits, (batch, length, vocabulary), or with a `LargeVocabulary` this already.
    """
    from torch.nn.functional import cross_entropy

    if outputs.dim() == 2:
        return outputs
    if "surprise" not in batch:
        labels = onto(batch["labels"], outputs.device)
        found = cross_entropy(outputs.float().flatten(0, 1), labels.flatten(), reduction="none")
        if outputs.requires_grad:
            return found.view_as(labels)
        batch["surprise"] = found.view_as(labels)
    return batch["surprise"]
