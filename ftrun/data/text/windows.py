"""Texts longer than a network reads, cut into windows that overlap; every token knows where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.text.token_cache import remembered
from ftrun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy import ndarray
    from transformers import PreTrainedTokenizerBase

SPECIAL = 4  # tokens that a tokenizer adds to a text or a pair, at most
MOST = 4 << 20  # characters of a text, which is tokenised whole
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
) -> tuple[list[Window], bool]:
    """Windows of at most `max_length` tokens, and whether they are kept from an earlier run.

    Neighbours share `stride` tokens of the text; with questions, each begins with the whole question. Raises
    ConfigError for a tokenizer that cannot say where its tokens stand, DataError for a text without measure.
    """
    if not tokenizer.is_fast:
        raise ConfigError(f"{type(tokenizer).__name__} does not say where its tokens stand in a text")
    if long := next((text for text in texts if len(text) > MOST), None):
        raise DataError(
            f"a text has {len(long):,} characters ({long[:40]!r}…); windows are cut from texts of up to"
            f" {MOST:,}: make several rows of it"
        )
    columns = [list(texts)] if questions is None else [list(questions), list(texts)]

    def fresh() -> list[Any]:
        parts = ([each[at : at + AT_ONCE] for each in columns] for at in range(0, len(texts), AT_ONCE))
        return [
            row
            for number, part in enumerate(parts)
            for row in some(tokenizer, part, number, max_length, stride)
        ]

    options = ["windows", max_length, stride, "token_type_ids" in tokenizer.model_input_names]
    found, known = remembered(tokenizer, columns, options, fresh)
    return [
        Window(
            int(place[0]),
            listed(ids),
            listed(types) if len(types) else None,
            int(place[1]),
            spans.reshape(-1, 2),
        )
        for place, ids, types, spans in zip(*(found[place::4] for place in range(4)), strict=True)
    ], known


def whole_sizes(found: Sequence[Window], stride: int) -> dict[int, int]:
    """The tokens of each text, special ones and its question included, of all its windows in their order."""
    sizes: dict[int, int] = {}
    for window in found:
        known = sizes.get(window.text)
        sizes[window.text] = len(window.ids) if known is None else known + len(window.spans) - stride
    return sizes


def listed(ids: Any) -> list[int]:
    return ids if isinstance(ids, list) else ids.tolist()


def some(
    tokenizer: PreTrainedTokenizerBase, columns: list[list[str]], number: int, max_length: int, stride: int
) -> Iterator[Any]:
    """Of each window of this part of the texts: text and start, ids, types, and its spans one by one."""
    import numpy

    pairs = len(columns) == 2
    encoded = tokenizer(
        *columns,
        truncation="only_second" if pairs else True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids="token_type_ids" in tokenizer.model_input_names,
    )
    types = encoded.get("token_type_ids")
    for window, ids in enumerate(encoded["input_ids"]):
        own = [at for at, which in enumerate(encoded.sequence_ids(window)) if which == int(pairs)]
        spans = encoded["offset_mapping"][window]
        yield [number * AT_ONCE + encoded["overflow_to_sample_mapping"][window], own[0] if own else 0]
        yield ids
        yield types[window] if types is not None else []
        yield numpy.array([place for at in own for place in spans[at]], dtype=numpy.int32)
