"""Tokens that do not fit into memory: written once, whole or not at all, and mapped from then on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray


def place_of(key: str) -> Path:
    """Where the tokens of that key lie, in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "ftrun" / f"tokens-{key}"


def append(pieces: Iterable[tuple[list[int], list[int]]], file: Path) -> Path:
    """Write `file`.tokens and `file`.flags from tokens and flags as they come, unless they are there."""
    import numpy

    if kept(file):
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = {kind: file.with_name(f"{file.name}.{os.getpid()}.{kind}") for kind in ("tokens", "flags")}
    try:
        with beside["tokens"].open("wb") as tokens, beside["flags"].open("wb") as flags:
            for ids, kinds in pieces:
                tokens.write(numpy.array(ids, numpy.uint32).tobytes())
                flags.write(bytes(kinds))
        for kind in ("flags", "tokens"):  # tokens last: with them the file is there
            beside[kind].replace(file.with_name(f"{file.name}.{kind}"))
    finally:
        for each in beside.values():
            each.unlink(missing_ok=True)
    return file


def kept(file: Path) -> bool:
    """Whether the tokens have been written before."""
    return file.with_name(f"{file.name}.tokens").is_file()


def mapped(file: Path) -> tuple[ndarray, ndarray]:
    """Tokens and flags, read from the disk where they are looked at."""
    import numpy

    names = file.with_name(f"{file.name}.tokens"), file.with_name(f"{file.name}.flags")
    if not names[0].stat().st_size:
        return numpy.zeros(0, numpy.uint32), numpy.zeros(0, numpy.uint8)
    return numpy.memmap(names[0], numpy.uint32, "r"), numpy.memmap(names[1], numpy.uint8, "r")
