"""Which tokens of a text are hidden, and by what: tokens, whole words or spans (Devlin et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ftrun.data.text.masking import IGNORED, choose
from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from transformers import PreTrainedTokenizerBase

LONGEST, STOP = 10, 0.2  # of spans: tokens at most, chance to end after each (Joshi et al. 2020, SpanBERT)
MARKS = {"##": True, "Ġ": False, "▁": False}  # of a token that goes on with a word, or begins one


@dataclass
class Known:
    """What of a tokenizer the gaps depend on: ids of special tokens, and what each of its tokens is."""

    cls: int
    sep: int
    gap: int
    pad: int
    special: Tensor  # (tokens,) booleans
    ordinary: Tensor  # the ids of the others
    goes_on: Tensor | None  # `continuing`, where whole words are hidden


def known(tokenizer: PreTrainedTokenizerBase, words: bool) -> Known:
    """ConfigError where the tokenizer has no token for a gap, or none around a text."""
    cls, sep, gap = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id
    if cls is None or sep is None or gap is None:
        raise ConfigError(
            "task=mlm: the tokenizer has no token for a gap, a beginning or an end;"
            " task.tokenizer=train makes one"
        )
    special = torch.zeros(len(tokenizer), dtype=torch.bool)
    special[torch.tensor(sorted(set(tokenizer.all_special_ids)))] = True
    ordinary = (~special).nonzero().squeeze(1)
    goes_on = continuing(tokenizer) if words else None
    return Known(cls, sep, gap, tokenizer.pad_token_id, special, ordinary, goes_on)


def hide(
    ids: Tensor,  # (length,)
    special: Tensor,  # (length,) which are no text
    *,
    share: float,
    split: list[float],  # masked, random, kept
    words: Tensor | None,  # (length,) which go on with a word, to hide whole words
    spans: bool,
    mask_id: int,
    ordinary: Tensor,  # ids that a token may be replaced by
    generator: Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """New inputs, labels (-100 where nothing is to be guessed) and the kind of each gap, all (length,).

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
    """For each token of the vocabulary whether it goes on with the word before it; words end at blanks.

    WordPiece marks what goes on (##), byte-level pairs (Ġ) and SentencePiece (▁) what begins.
    """
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    for mark, goes_on in MARKS.items():
        if any(name.startswith(mark) for name in names):
            return torch.tensor([name.startswith(mark) is goes_on for name in names])
    return torch.zeros(len(names), dtype=torch.bool)
