"""Token ids of many texts, kept in a cache by the content of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.runs import cache
from ftrun.runs.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy import ndarray

PAYS = 200_000  # characters, a fifth of a second of tokenising on one core; below, nothing is kept
LARGEST = 2 * 1024**3  # bytes of all kept files; beyond, those used longest ago go
VERSION = (
    2  # of how texts are cut, and of the file: sha256 of the rest, count (int64), lengths and ids (int32)
)


def directory() -> Path:
    """Where token ids are kept: $XDG_CACHE_HOME/ftrun/tokens, or ~/.cache/ftrun/tokens."""
    return cache.directory("tokens")


def token_ids(tokenizer: Any, texts: list[str], **options: Any) -> tuple[list[list[int]], bool]:
    """The token ids of the texts under the tokenizer's own `options`, and whether the cache had it."""
    found, kept = kept_tokens(tokenizer, [texts], ["input_ids"], **options)
    return found["input_ids"], kept


def kept_tokens(
    tokenizer: Any, columns: list[list[str]], names: list[str], **options: Any
) -> tuple[dict[str, list[list[int]]], bool]:
    """The same of one column of texts or of two as pairs, and several of the tokenizer's outputs by name."""
    wanted = {f"return_{name}": name in names for name in ("attention_mask", "token_type_ids")}

    def fresh() -> list[list[int]]:
        found = tokenizer(*columns, verbose=False, **wanted, **options)
        return [ids for name in names for ids in found[name]]

    rows = len(columns[0])
    found, known = remembered(tokenizer, columns, [names, options], fresh, rows * len(names))
    lists = [ids if isinstance(ids, list) else ids.tolist() for ids in found]
    return {name: lists[i * rows : (i + 1) * rows] for i, name in enumerate(names)}, known


def remembered(
    tokenizer: Any,
    columns: list[list[str]],
    options: list[Any],
    fresh: Callable[[], list[Any]],
    count: int | None = None,
) -> tuple[list[Any], bool]:
    """What `fresh` makes of the columns, lists of whole numbers or arrays, and whether the cache had it.

    The cache gives arrays; `count` is how many, where that is known.
    """
    size = sum(len(text) for texts in columns for text in texts)
    if size < PAYS or not tokenizer.is_fast:
        return fresh(), False
    place = directory() / f"{key_of(tokenizer, columns, options)}.ids"
    if (found := whole(place, count)) is not None:
        return found, True
    with cache.making(place):
        if (found := whole(place, count)) is not None:
            return found, True
        made = fresh()
        try:
            write(place, made)
        except OSError as error:
            say(f"the token ids are not kept for the next run: {place.parent}: {error.strerror}")
        return made, False


def whole(place: Path, count: int | None) -> list[ndarray] | None:
    """The ids that are kept, where they are as many as they should be."""
    found = read(place)
    return None if found is None or count not in (None, len(found)) else found


def key_of(tokenizer: Any, columns: Sequence[Sequence[str]], options: list[Any]) -> str:
    """A hash of the texts, the tokenizer's whole content, the options and the libraries' versions."""
    settings = [VERSION, *tokenizer_content(tokenizer), options, len(columns)]
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for text in (text for texts in columns for text in texts):
        data = text.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()[:32]


def tokenizer_content(tokenizer: Any) -> list[Any]:
    """All of a tokenizer on which tokens depend: its vocabulary and rules, and the libraries' versions."""
    import tokenizers
    import transformers

    content = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {"": repr(tokenizer)}
    for state in ("truncation", "padding"):  # of its last call
        content.pop(state, None)
    kind = type(tokenizer).__name__
    return [transformers.__version__, tokenizers.__version__, kind, tokenizer.truncation_side, content]


def read(place: Path) -> list[ndarray] | None:
    """The ids in a file of `write`, int32; None where there is none, or none that is whole."""
    import numpy

    try:
        data = place.read_bytes()
        os.utime(place)  # used just now
    except OSError:
        return None
    if len(data) < 40 or hashlib.sha256(data[32:]).digest() != data[:32]:
        return None
    count = int.from_bytes(data[32:40], "little")
    ends = numpy.frombuffer(data, numpy.int32, count, 40).cumsum()
    flat = numpy.frombuffer(data, numpy.int32, offset=40 + 4 * count)
    return [flat[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)] if count else []


def write(place: Path, ids: list[Any]) -> None:
    """Written whole or not at all; then room is made."""
    import numpy

    lengths = numpy.fromiter(map(len, ids), numpy.int32, len(ids))
    flat = numpy.concatenate(
        [numpy.zeros(0, numpy.int32), *(numpy.asarray(each, numpy.int32) for each in ids)]
    )
    content = len(ids).to_bytes(8, "little") + lengths.tobytes() + flat.tobytes()
    with cache.made(place, LARGEST) as beside:
        beside.write_bytes(hashlib.sha256(content).digest() + content)
