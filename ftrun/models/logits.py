"""The logits of a network; over a vocabulary only at the positions to predict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ftrun.models.attention_masks import keep_apart
from ftrun.models.memory_format import memory_format_of
from ftrun.models.vocabulary import surprise

if TYPE_CHECKING:
    from collections.abc import Mapping


ORDER = ("seq_relationship_logits", "sop_logits")  # as BERT and ALBERT call them


class Both(NamedTuple):
    """The logits of a network that predicts tokens and whether one segment follows another."""

    words: Tensor  # (chosen, vocabulary)
    order: Tensor  # (batch, 2): it does, it does not


def logits_of(net: nn.Module, inputs: Mapping[str, Tensor], **asked: Any) -> Any:
    """The logits for what the network takes by name.

    With `positions` among the inputs, places (chosen,) counted through all rows, those of a language model at
    these only, (chosen, vocabulary), and `Both` of one with two heads, whose words alone they are without.
    With `targets` among them, (batch, length), what each of these tokens costs instead; see `surprise`. Those
    of a span's start and end are one tensor, (batch, 2, length).

    Images go in with their channels last in memory, as the layers behind then keep them: no number changes,
    and convolutions are faster (PyTorch, "Channels Last Memory Format"); `memory_format_of` says where not.
    """
    given = dict(inputs)
    if "pixel_values" in given:
        pixels = given["pixel_values"]
        given["pixel_values"] = pixels.to(memory_format=memory_format_of(net, pixels.device.type))
    if "attention_mask" in given and given["attention_mask"].ndim == 4:
        keep_apart(net)
    if (targets := given.pop("targets", None)) is not None:
        return surprise(net, given, targets, **asked)
    positions = given.pop("positions", None)
    with only_at(net, positions):
        outputs = net(**given, **asked)
    if "start_logits" in outputs:
        return spans(outputs, given["attention_mask"])
    words = outputs.prediction_logits if "prediction_logits" in outputs else outputs.logits
    if positions is None:
        return words
    words = words if words.ndim == 2 else words.flatten(0, 1)[positions]
    order = next((outputs[name] for name in ORDER if name in outputs), None)
    return words if order is None else Both(words, order)


@contextmanager
def only_at(net: nn.Module, positions: Tensor | None) -> Iterator[None]:
    """The output embeddings see the chosen positions only: with a large vocabulary they are half of the work.

    A network that multiplies by them without calling the module is not changed.
    """
    if positions is None:
        yield
        return
    embeddings: nn.Module = net.get_output_embeddings()
    handle = embeddings.register_forward_pre_hook(lambda _, states: (states[0].flatten(0, 1)[positions],))
    try:
        yield
    finally:
        handle.remove()


def spans(outputs: Any, mask: Tensor) -> Tensor:
    """At padding the lowest number there is: it is no place for a span, however long the batch is."""
    found = torch.stack([outputs.start_logits, outputs.end_logits], 1)
    return found.masked_fill((mask == 0).unsqueeze(1), torch.finfo(found.dtype).min)
