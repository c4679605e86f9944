"""Named random streams, one for each use of randomness: pure functions of the seed and a position."""

from __future__ import annotations

import hashlib


def stream(seed: int, name: str, *position: int) -> int:
    """A 63-bit seed for the stream `name` at a position in it.

    The streams are init, order, dropout, augment, subset, split, probe and a few for single methods.
    Streams are independent and have no state to save: a resumed run uses the same positions.
    """
    text = "/".join([str(seed), name, *map(str, position)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
