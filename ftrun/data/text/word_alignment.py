"""The words of a sentence among the tokens of its windows: which token stands for which word."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftrun.data.text.windows import Window, whole_sizes, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase


@dataclass
class Words:
    """The words that a window answers for: their numbers, and where their first tokens stand."""

    count: int  # words of the whole sentence
    tags: list[str] | None  # of the whole sentence, in IOB2
    tokens: int  # of the whole sentence, special ones included
    numbers: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)


def worded(
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[list[str]],
    max_length: int,
    stride: int,
    tags: Sequence[list[str]] | None = None,
) -> tuple[list[tuple[int, list[int], Words]], bool]:
    """Sentence, token ids and words of every window that answers for a word; one at least for a sentence.

    And whether the windows are kept from an earlier run.
    """
    by_sentence: list[list[Window]] = [[] for _ in sentences]
    whole, known = windows(tokenizer, [" ".join(tokens) for tokens in sentences], max_length, stride)
    for window in whole:
        by_sentence[window.text].append(window)
    sizes, kept = whole_sizes(whole, stride), []
    for row, (tokens, found) in enumerate(zip(sentences, by_sentence, strict=True)):
        own = [Words(len(tokens), tags[row] if tags is not None else None, sizes[row]) for _ in found]
        for word, (number, at) in best_places(tokens, found).items():
            own[number].numbers.append(word)
            own[number].at.append(found[number].start + at)
        used = [number for number, words in enumerate(own) if words.numbers] or [0][: len(tokens)]
        kept += [(row, found[number].ids, own[number]) for number in used]
    return kept, known


def best_places(tokens: list[str], found: list[Window]) -> dict[int, tuple[int, int]]:
    """word → (window, token of its text): the word's first token where its poorer side is richest."""
    starts, place = [], 0
    for token in tokens:
        starts.append(place)
        place += len(token) + 1
    candidates: dict[int, list[tuple[int, int, int, int]]] = {}
    for number, window in enumerate(found):
        seen: set[int] = set()
        length = len(window.spans)
        for at, (first, behind) in enumerate(window.spans.tolist()):
            word = bisect_right(starts, behind - 1) - 1
            if behind > first and word not in seen:
                seen.add(word)
                candidates.setdefault(word, []).append((first, -min(at, length - 1 - at), number, at))
    best = {word: min(options) for word, options in candidates.items()}
    return {word: (number, at) for word, (_, _, number, at) in sorted(best.items())}
