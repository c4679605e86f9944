"""Named random streams: every use of chance has its own, each a pure function of the seed and a position."""

from __future__ import annotations

import hashlib


def stream(seed: int, name: str, *position: int) -> int:
    """A 63-bit seed for the stream `name` at a position in it.

    The streams are init, order, dropout, augment, subset, split, probe and a few of single methods.
    Streams do not touch each other, and none has a state to save: a resumed run asks for the same positions.
    """
    text = "/".join([str(seed), name, *map(str, position)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
