"""What the frozen network makes of examples: the vectors that go into its head, or those of another layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ftrun.data.batching import sorted_batches

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from ftrun.models.model import Model
    from ftrun.tasks.dataset import Dataset, Example

BATCH = 32
Pick = Callable[[Any, Any, Any], Any]  # of a layer's inputs, its output, and the network's inputs by name


def features(model: Model, dataset: Dataset, accelerator: Accelerator) -> Tensor:
    """The vectors that go into the network's head for a dataset's examples, (examples, width), on the CPU.

    The network, in evaluation mode, is on the accelerator's device meanwhile.
    """
    place = next(model.parameters()).device
    model.to(accelerator.device)
    try:
        return features_of(dataset, model, dataset.examples, first_of_head(model), under_head)
    finally:
        model.to(place)


def features_of(
    dataset: Dataset, model: Model, examples: Sequence[Example], layer: nn.Module, pick: Pick
) -> Tensor:
    """What `pick` takes from a layer for each example, (examples, width), fp32 on the CPU."""
    kept: list[Any] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append((inputs, output)))
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    rows: list[Any] = [None] * len(examples)
    pending = sorted_batches([example.size for example in examples], BATCH)
    with torch.no_grad():
        while pending:
            places = pending.pop(0)
            batch = dataset.collate([examples[place] for place in places])["inputs"]
            inputs = {name: value.to(device) for name, value in batch.items()}
            try:
                model(**inputs)
            except torch.OutOfMemoryError:
                if len(places) == 1:
                    raise
                kept.clear()
                pending[:0] = [places[: len(places) // 2], places[len(places) // 2 :]]
                continue
            given, output = kept.pop()
            picked = pick(given, output, inputs).float().cpu()
            for place, row in zip(places, picked, strict=True):
                rows[place] = row
    handle.remove()
    model.train(was_training)
    return torch.stack(rows)


def mean_of_tokens(layer_inputs: Any, output: Any, inputs: dict[str, Tensor]) -> Tensor:
    """The mean of a layer's output over the tokens of each text."""
    hidden = output[0] if isinstance(output, tuple) else output
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    return (hidden * mask).sum(1) / mask.sum(1)


def under_head(layer_inputs: Any, output: Any, inputs: dict[str, Tensor]) -> Tensor:
    """The vector that goes into the head; of a head on every token, the last token's."""
    hidden: Tensor = layer_inputs[0]
    if hidden.ndim == 3:
        last = inputs["attention_mask"].shape[1] - 1 - inputs["attention_mask"].flip(1).argmax(1)
        hidden = hidden[torch.arange(len(hidden), device=hidden.device), last]
    return hidden.flatten(1)


def first_of_head(model: Model) -> nn.Module:
    """The lowest linear layer that the checkpoint did not bring, on what the run pools."""
    return next(module for module in model.head_layers() if isinstance(module, torch.nn.Linear))
