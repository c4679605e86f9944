"""What the head reads: the input of its lowest linear layer that the checkpoint did not bring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ftrun.errors import counted
from ftrun.models.features.prefix import ALL, HIDDEN, LAST, Part, Values, lengths_of, stopped_at, tokens_of
from ftrun.models.heads import Pooled

if TYPE_CHECKING:
    from ftrun.models.model import Model


class HeadInput:
    """As a Prefix, (width,) of each example; of a head on every token, the last token's."""

    def __init__(self, model: Model) -> None:
        self.model, self.site, self.parts = model, first_of_head(model), dict[str, Part]()
        self.cut = f"head over {model.net.pooling}" if isinstance(model.net, Pooled) else "head"

    def frozen(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor on which it may depend, by name."""
        above = {name for name, _ in self.model.head_parameters()}
        tensors = [*self.model.named_parameters(), *self.model.named_buffers()]
        yield from ((name, value) for name, value in tensors if name not in above)

    def learn(self, inputs: Mapping[str, Tensor]) -> None:
        """Find its shape, on a batch."""
        value = stopped_at(self.site, self.model, inputs, before=True)
        per_token = value.ndim == 3 and value.shape[1] == tokens_of(inputs)
        tail = tuple(value.shape[2:]) if per_token else (value[0].numel(),)
        self.parts = {HIDDEN: Part(LAST if per_token else ALL, per_token, tail, value.dtype)}

    def run(self, inputs: Mapping[str, Tensor]) -> Values:
        """(batch, width) under one name; the network is in evaluation mode."""
        value = stopped_at(self.site, self.model, inputs, before=True)
        part = self.parts[HIDDEN]
        return {HIDDEN: part.of(value if part.per_token else value.flatten(1), lengths_of(inputs))}


def first_of_head(model: Model) -> nn.Module:
    """The lowest linear layer that the checkpoint did not bring, on what the run pools."""
    return next(layer for layer in model.head_layers() if isinstance(layer, nn.Linear))


def unlike_one_layer(model: Model) -> str:
    """Why the head is not one linear layer, in words; empty where it is."""
    layers = model.head_layers()
    if len(layers) == 1 and isinstance(layers[0], nn.Linear):
        return ""
    kind = type(model.net).__name__
    return f"the new weights of {kind} are those of {counted(len(layers), 'layer')}, not of one linear layer"
