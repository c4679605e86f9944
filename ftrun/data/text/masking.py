"""Masked language modelling: which tokens are hidden, by what, and the loss at them (Devlin et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

IGNORED = -100  # the label of a token that is not to be guessed
MASKED, RANDOM = 0.8, 0.1  # of the chosen tokens; the rest stay as they are


def mask_tokens(
    ids: Tensor,  # (batch, length)
    *,
    share: float,
    mask_id: int,
    special_ids: Sequence[int],
    vocabulary: int,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """New inputs and labels, (batch, length): each ordinary token is chosen with probability `share`.

    At least one is chosen in every sequence that has an ordinary token. Special tokens and padding are never
    chosen and, unlike in the original, never a random replacement. Dynamic: call again for new masks.
    """
    special = torch.tensor(sorted(set(special_ids)), device=ids.device)
    chosen = choose(torch.isin(ids, special), share, generator)
    labels = ids.masked_fill(~chosen, IGNORED)
    ordinary = torch.ones(vocabulary, dtype=torch.bool, device=ids.device).index_fill(0, special, False)
    replacements = _draw(ordinary.nonzero().squeeze(1), ids.shape, generator)
    fate = torch.rand(ids.shape, generator=generator, device=ids.device)
    inputs = ids.masked_fill(chosen & (fate < MASKED), mask_id)
    return inputs.where(~(chosen & (fate >= MASKED) & (fate < MASKED + RANDOM)), replacements), labels


def choose(special: Tensor, share: float, generator: Generator) -> Tensor:
    """Which tokens to guess, as booleans (batch, length), given which are special."""
    draw = torch.rand(special.shape, generator=generator, device=special.device).masked_fill(special, 2.0)
    lowest = draw == draw.min(dim=1, keepdim=True).values  # the one to take where none is below the share
    return ((draw < share) | lowest) & ~special


def _draw(values: Tensor, shape: Sequence[int], generator: Generator) -> Tensor:
    return values[torch.randint(len(values), tuple(shape), generator=generator, device=values.device)]


def mlm_loss(head: Callable[[Tensor], Tensor], hidden: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Cross-entropy summed over the chosen tokens, and their count; the sum is 0 where none is chosen.

    `head` turns hidden states into logits over the vocabulary and sees the chosen positions only; hidden is
    (batch, length, width).
    """
    chosen = labels != IGNORED
    logits = head(hidden[chosen])  # (chosen, vocabulary)
    return functional.cross_entropy(logits.float(), labels[chosen], reduction="sum"), int(chosen.sum())
