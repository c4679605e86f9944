"""Texts longer than a network reads, cut into windows that overlap; every token knows where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy import ndarray
    from transformers import PreTrainedTokenizerBase

SPECIAL = 4  # tokens that a tokenizer adds to a text or a pair, at most
AT_ONCE = 1000  # texts; positions are kept for the windows, not for all that a tokenizer returns


@dataclass
class Window:
    """Token ids with specials, and where those of the text stand."""

    text: int  # its index among the texts
    ids: list[int]
    types: list[int] | None  # token types, of a network that reads them
    start: int  # position of the first token of the text
    spans: ndarray  # (tokens of the text, 2), int32: the characters of each, from and up to


def windows(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    stride: int,
    questions: Sequence[str] | None = None,
) -> Iterator[Window]:
    """Windows of at most `max_length` tokens; neighbours share `stride` tokens of the text.

    With questions, each window begins with the whole question. Raises ConfigError for a tokenizer that
    cannot say where its tokens stand.
    """
    if not tokenizer.is_fast:
        raise ConfigError(f"{type(tokenizer).__name__} does not say where its tokens stand in a text")
    for begin in range(0, len(texts), AT_ONCE):
        part = list(texts[begin : begin + AT_ONCE])
        asked = list(questions[begin : begin + AT_ONCE]) if questions is not None else None
        yield from some(tokenizer, part, begin, max_length, stride, asked)


def some(
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    begin: int,
    max_length: int,
    stride: int,
    questions: list[str] | None,
) -> Iterator[Window]:
    import numpy

    encoded = tokenizer(
        *([texts] if questions is None else [questions, texts]),
        truncation=True if questions is None else "only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids="token_type_ids" in tokenizer.model_input_names,
    )
    types = encoded.get("token_type_ids")
    for number, ids in enumerate(encoded["input_ids"]):
        sequence = encoded.sequence_ids(number)
        own = [at for at, which in enumerate(sequence) if which == (0 if questions is None else 1)]
        spans = [encoded["offset_mapping"][number][at] for at in own]
        yield Window(
            begin + encoded["overflow_to_sample_mapping"][number],
            ids,
            types[number] if types is not None else None,
            own[0] if own else 0,
            numpy.array(spans, dtype=numpy.int32).reshape(len(own), 2),
        )
