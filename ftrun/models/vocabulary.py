"""The loss over a large vocabulary without all of its logits in memory at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGE = 2**14  # words; with fewer, the logits of a batch are small beside what the layers keep
HELD = 2**24  # logits at a time, 64 MB in fp32; their log-softmax and their gradient are as large

plain_heads: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def surprise(net: nn.Module, inputs: Mapping[str, Tensor], targets: Tensor, **asked: Any) -> Tensor:
    """-log p in fp32 of every target, (batch, length), zero where it is -100.

    Over a large vocabulary the head sees a part of the positions at a time and its logits are computed again
    for their gradient, so that those of one part are in memory and not those of all: with logits in fp32 that
    is 4 x 4 bytes for each word and position less. Numbers differ by rounding. Such losses are in Liger
    Kernel (Hsu et al. 2024, arXiv:2410.10989) and Cut Cross-Entropy (Wijmans et al. 2024, arXiv:2411.09009).
    """
    head: nn.Module | None = net.get_output_embeddings()
    if head is None or targets.numel() * words_of(head) <= HELD or not in_parts(net, head, inputs, asked):
        logits = net(**inputs, **asked).logits
        return nats(logits.flatten(0, 1), targets.flatten()).view_as(targets)
    states, _, _ = through(net, head, inputs, asked)
    size = HELD // words_of(head)
    parts = zip(states.flatten(0, 1).split(size), targets.flatten().split(size), strict=True)
    found = [
        checkpoint(part_of, head, some, wanted, use_reentrant=False, preserve_rng_state=False)
        for some, wanted in parts
    ]
    return torch.cat(found).view_as(targets)


def part_of(head: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    return nats(head(states), targets)


def nats(logits: Tensor, targets: Tensor) -> Tensor:
    """(positions,) of logits (positions, vocabulary)."""
    return cross_entropy(logits.float(), targets, reduction="none")


def words_of(head: nn.Module) -> int:
    """The size of the vocabulary; 0 for a head without weights of its own."""
    return len(weight) if (weight := getattr(head, "weight", None)) is not None else 0


def in_parts(net: nn.Module, head: nn.Module, inputs: Mapping[str, Tensor], asked: Mapping[str, Any]) -> bool:
    """Whether the logits are what the head gives, without a cap or a scale behind it.

    Found once for a network, by a forward pass that draws no number and has no gradient.
    """
    if net not in plain_heads:
        one = {"input_ids": inputs["input_ids"][:1, :1]}
        with torch.no_grad(), torch.random.fork_rng():
            _, made, logits = through(net, head, one, asked)
        plain_heads[net] = made is logits
    return plain_heads[net]


def through(
    net: nn.Module, head: nn.Module, inputs: Mapping[str, Tensor], asked: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """What goes into the head, (batch, length, width), and of the last position its output and the logits."""
    seen: list[Tensor] = []

    def first(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        seen.append(given[0])
        return (given[0][:1, -1:],)

    handles = [
        head.register_forward_pre_hook(first),
        head.register_forward_hook(lambda *given: seen.append(given[-1])),
    ]
    try:
        logits = net(**inputs, **asked).logits
    finally:
        for handle in handles:
            handle.remove()
    return seen[0], seen[1], logits
