"""Token ids of many texts, kept in a cache by the content of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence

PAYS = 1_000_000  # characters, about a second of tokenising on one core; below, nothing is kept
LARGEST = 2 * 1024**3  # bytes of all kept files; beyond, those used longest ago go
VERSION = 1  # of the file: sha256 of the rest, count of texts (int64), their lengths and all ids (int32)


def directory() -> Path:
    """Where token ids are kept: $XDG_CACHE_HOME/ftrun/tokens, or ~/.cache/ftrun/tokens."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ftrun" / "tokens"


def token_ids(tokenizer: Any, texts: list[str], **options: Any) -> tuple[list[list[int]], bool]:
    """What the tokenizer says of the texts under its own `options`, and whether the cache had it."""
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

    rows, size = len(columns[0]), sum(len(text) for texts in columns for text in texts)
    kept = size >= PAYS and tokenizer.is_fast
    place = directory() / f"{key_of(tokenizer, columns, [names, options])}.ids" if kept else None
    found = read(place) if place is not None else None
    known = found is not None and len(found) == rows * len(names)
    if found is None or not known:
        found = fresh()
        if place is not None:
            try:
                write(place, found)
            except OSError as error:
                say(f"the token ids are not kept for the next run: {place.parent}: {error.strerror}")
    return {name: found[i * rows : (i + 1) * rows] for i, name in enumerate(names)}, known


def key_of(tokenizer: Any, columns: Sequence[Sequence[str]], options: list[Any]) -> str:
    """A hash of the texts, the tokenizer's whole content, the options and the libraries' versions."""
    import tokenizers
    import transformers

    content = json.loads(tokenizer.backend_tokenizer.to_str())
    for state in ("truncation", "padding"):  # of its last call
        content.pop(state, None)
    settings = [
        VERSION,
        transformers.__version__,
        tokenizers.__version__,
        type(tokenizer).__name__,
        tokenizer.truncation_side,
        content,
        options,
        len(columns),
    ]
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for text in (text for texts in columns for text in texts):
        data = text.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()[:32]


def read(place: Path) -> list[list[int]] | None:
    """The ids in a file of `write`; None where there is none, or none that is whole."""
    import numpy

    try:
        data = place.read_bytes()
        os.utime(place)  # used just now
    except OSError:
        return None
    if len(data) < 40 or hashlib.sha256(data[32:]).digest() != data[:32]:
        return None
    count = int.from_bytes(data[32:40], "little")
    lengths = numpy.frombuffer(data, numpy.int32, count, 40).tolist()
    flat = numpy.frombuffer(data, numpy.int32, offset=40 + 4 * count).tolist()
    ids, start = [], 0
    for length in lengths:
        ids.append(flat[start : start + length])
        start += length
    return ids


def write(place: Path, ids: list[list[int]]) -> None:
    """Written beside and renamed, so that a reader and other writers find whole files; then room is made."""
    import numpy

    lengths = numpy.fromiter(map(len, ids), numpy.int32, len(ids))
    flat = numpy.fromiter((token for each in ids for token in each), numpy.int32, int(lengths.sum()))
    content = len(ids).to_bytes(8, "little") + lengths.tobytes() + flat.tobytes()
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=place.parent, prefix=f".{place.stem}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
        os.replace(beside, place)
    finally:
        Path(beside).unlink(missing_ok=True)
    make_room(place)


def make_room(newest: Path) -> None:
    """Remove what was used longest ago until the rest, the newest file included, is within LARGEST."""
    found = []
    for file in newest.parent.iterdir():
        try:
            status = file.stat()
        except FileNotFoundError:  # another process made room
            continue
        found.append((file != newest, -status.st_mtime, status.st_size, file))
    total = 0
    for _, _, size, file in sorted(found):
        total += size
        if total > LARGEST and file != newest:
            file.unlink(missing_ok=True)
