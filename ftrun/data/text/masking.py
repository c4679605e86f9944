"""Masked language modelling: which tokens, words or spans are masked, and the loss (Devlin et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from ftrun.data.text.packing import IGNORED
from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor
    from transformers import PreTrainedTokenizerBase

MASKED, RANDOM = 0.8, 0.1  # of the chosen tokens; the rest stay as they are
LONGEST, STOP = 10, 0.2  # of spans: tokens at most, chance to end after each (Joshi et al. 2020, SpanBERT)
MARKS = {"##": True, "Ġ": False, "▁": False}  # of a token that continues a word, or begins one


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
    """Which tokens to predict, as booleans (batch, length), given which are special."""
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


@dataclass
class MaskingTokens:
    """The token ids of a tokenizer that masking needs, and which tokens continue a word."""

    cls: int
    sep: int
    mask_id: int
    pad: int
    special: Tensor  # (tokens,) booleans
    ordinary: Tensor  # the ids of the others
    continues_word: Tensor | None  # `continuing`, where whole words are masked


def masking_tokens(tokenizer: PreTrainedTokenizerBase, words: bool) -> MaskingTokens:
    """ConfigError where the tokenizer has no mask token, or none around a text."""
    cls, sep, mask_id = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id
    if cls is None or sep is None or mask_id is None:
        raise ConfigError(
            "task=mlm: the tokenizer has no mask, [CLS] or [SEP] token;"
            " task.tokenizer=train trains one that has them"
        )
    special = torch.zeros(len(tokenizer), dtype=torch.bool)
    special[torch.tensor(sorted(set(tokenizer.all_special_ids)))] = True
    ordinary = (~special).nonzero().squeeze(1)
    continues_word = continuing(tokenizer) if words else None
    return MaskingTokens(cls, sep, mask_id, tokenizer.pad_token_id, special, ordinary, continues_word)


def hide(
    ids: Tensor,  # (length,)
    special: Tensor,  # (length,) which are no text
    *,
    share: float,
    split: list[float],  # masked, random, kept
    words: Tensor | None,  # (length,) which continue a word, to mask whole words
    spans: bool,
    mask_id: int,
    ordinary: Tensor,  # ids that a token may be replaced by
    generator: Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """New inputs, labels (-100 where nothing is predicted) and the kind of each masked token, all (length,).

    A share of the tokens, words, or in spans the tokens until it is reached, is chosen; at least one. Each
    chosen token has a fate of its own, a span one for all its tokens, as published. The kind is -1 elsewhere.
    """
    groups = torch.arange(len(ids))
    if words is not None:
        groups = (~words | special | special.roll(1)).cumsum(0)
    if spans:
        chosen, groups = spanned(special, share, generator)
    else:
        chosen = by_group(groups, special, share, generator)
    labels = ids.masked_fill(~chosen, IGNORED)
    fate = torch.rand(len(ids) + 1, generator=generator)[groups if spans else torch.arange(len(ids))]
    kinds = (fate >= split[0]).long() + (fate >= split[0] + split[1]).long()
    kinds = kinds.masked_fill(~chosen, -1)
    drawn = ordinary[torch.randint(len(ordinary), ids.shape, generator=generator)]
    return ids.masked_fill(kinds == 0, mask_id).where(kinds != 1, drawn), labels, kinds


def by_group(groups: Tensor, special: Tensor, share: float, generator: Generator) -> Tensor:
    """Chosen tokens (length,), all of a group or none."""
    names, place = groups.unique(return_inverse=True)
    without = torch.ones(len(names), dtype=torch.bool).index_fill(0, place[~special], False)
    return choose(without[None], share, generator)[0][place] & ~special


def spanned(special: Tensor, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Chosen tokens and the number of each one's span: of geometric length, at places drawn evenly."""
    text = (~special).nonzero().squeeze(1)
    chosen, groups = torch.zeros_like(special), torch.zeros(len(special), dtype=torch.long)
    wanted = max(1, round(share * len(text))) if len(text) else 0
    number = 0
    while int(chosen.sum()) < wanted:
        length = min(LONGEST, wanted - int(chosen.sum()))
        draws = torch.rand(length, generator=generator) < STOP
        length = int(draws.nonzero()[0]) + 1 if draws.any() else length
        begin = int(torch.randint(len(text), (1,), generator=generator))
        number += 1
        place = text[begin : begin + length]
        place = place[~chosen[place]]
        chosen[place], groups[place] = True, number
    return chosen, groups


def continuing(tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """For each token of the vocabulary whether it continues the word before it; words end at blanks.

    WordPiece marks what continues (##), byte-level pairs (Ġ) and SentencePiece (▁) what begins.
    """
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    for mark, continues_word in MARKS.items():
        if any(name.startswith(mark) for name in names):
            return torch.tensor([name.startswith(mark) is continues_word for name in names])
    return torch.zeros(len(names), dtype=torch.bool)
