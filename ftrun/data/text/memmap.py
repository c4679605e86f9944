"""Tokens that do not fit into memory: written once, whole or not at all, and mapped from then on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.data.text.token_cache import directory
from ftrun.runs.files import unique

if TYPE_CHECKING:
    from numpy import ndarray

KINDS = ("counts", "flags", "tokens")


def place_of(key: str) -> Path:
    """Where the tokens of that key lie, in the user's cache."""
    return directory().with_name(f"tokens-{key}")


def written(pieces: Iterable[tuple[list[int], list[int]]], file: Path, counts: dict[str, int]) -> None:
    """Write tokens and flags as they come, and then the counts, which grow with the pieces."""
    import numpy

    file.parent.mkdir(parents=True, exist_ok=True)
    beside = {kind: file.with_name(f"{file.name}.{unique()}.{kind}") for kind in KINDS}
    try:
        with beside["tokens"].open("wb") as tokens, beside["flags"].open("wb") as flags:
            for ids, kinds in pieces:
                tokens.write(numpy.array(ids, numpy.uint32).tobytes())
                flags.write(bytes(kinds))
        beside["counts"].write_text(json.dumps(counts))
        for kind in KINDS:
            beside[kind].replace(named(file, kind))
    finally:
        for each in beside.values():
            each.unlink(missing_ok=True)


def kept(file: Path) -> bool:
    """Whether the tokens have been written before."""
    return all(named(file, kind).is_file() for kind in KINDS)


def mapped(file: Path) -> tuple[ndarray, ndarray, dict[str, int]]:
    """Tokens and flags, read from the disk where they are looked at, and the counts."""
    import numpy

    counts = json.loads(named(file, "counts").read_text())
    if not named(file, "tokens").stat().st_size:
        return numpy.zeros(0, numpy.uint32), numpy.zeros(0, numpy.uint8), counts
    tokens = numpy.memmap(named(file, "tokens"), numpy.uint32, "r")
    return tokens, numpy.memmap(named(file, "flags"), numpy.uint8, "r"), counts


def named(file: Path, kind: str) -> Path:
    return file.with_name(f"{file.name}.{kind}")
