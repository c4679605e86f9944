"""Features of examples on the disk, by the content of all that they depend on, and mapped into memory.

A key stands for a network and the way it computes, an address for an example. A file has the features of
some examples under one key; equal examples have one address, whichever split or run computes them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

from ftrun.models.features.prefix import NOTHING, Part, Values
from ftrun.runs import cache
from ftrun.runs.leases import beats

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 8 * 1024**3  # bytes of all kept files; beyond, those used longest ago go
CONTENT, VARIANT = 16, 4  # bytes of an address: what the network is given, and in what width
ADDRESS = CONTENT + VARIANT
ALIGNED = 64  # bytes, where the tensors of a file begin
VERSION = 1  # of the file: sha256 of the head, its size (int64), the head, the tensors
Shapes = Mapping[
    str, Any
]  # of each tensor: type, whether examples have as many rows as tokens, shape of a row
Computed = Iterable[tuple[list[int], Values]]  # numbers of examples, and their features (examples, …)


def directory() -> Path:
    """Where features are kept: $XDG_CACHE_HOME/ftrun/features, or ~/.cache/ftrun/features."""
    return cache.directory("features")


class File:
    """One file: an example's features by its number in it, and by its address."""

    def __init__(self, place: Path) -> None:
        """ValueError where the file is not whole, OSError where there is none."""
        self.place = place
        os.utime(place)  # used just now
        self.bytes = numpy.memmap(place, numpy.uint8, "c")
        size = int.from_bytes(self.bytes[32:40].tobytes(), "little") if len(self.bytes) > 40 else 0
        head = self.bytes[40 : 40 + size].tobytes()
        if hashlib.sha256(head).digest() != self.bytes[:32].tobytes():
            raise ValueError(place)
        length = int.from_bytes(head[:8], "little")
        about = json.loads(head[8 : 8 + length])
        count, begin = about["count"], 8 + length
        self.addresses = [head[at : at + ADDRESS] for at in range(begin, begin + count * ADDRESS, ADDRESS)]
        self.lengths = numpy.frombuffer(head, numpy.int32, count, begin + count * ADDRESS)
        self.begins = numpy.concatenate([[0], self.lengths.cumsum(dtype=numpy.int64)])
        self.tensors = dict(self.views(about["parts"], 40 + size))
        beats.begin(self)

    def beat(self) -> None:
        """It is in use: pages of it are read when they are needed, on NFS from a file that must be there."""
        with suppress(OSError):
            os.utime(self.place)

    def views(self, parts: Shapes, begin: int) -> Iterator[tuple[str, Tensor]]:
        """Each tensor by name, (examples, *tail), or (tokens of all examples, *tail)."""
        places, end = layout(parts, self.lengths, begin)
        if len(self.bytes) != end:
            raise ValueError(f"{len(self.bytes)} bytes instead of {end}")
        for name, (dtype, ragged, tail) in parts.items():
            kind, rows = getattr(torch, dtype), int(self.begins[-1]) if ragged else len(self.lengths)
            stop = places[name] + rows * math.prod(tail) * kind.itemsize
            yield name, torch.from_numpy(self.bytes[places[name] : stop]).view(kind).view(rows, *tail)


def layout(parts: Shapes, lengths: Sequence[int], begin: int) -> tuple[dict[str, int], int]:
    """Where the tensors of a file begin, and where it ends."""
    places = {}
    for name, (dtype, ragged, tail) in parts.items():
        places[name] = begin = -(-begin // ALIGNED) * ALIGNED
        rows = int(sum(lengths)) if ragged else len(lengths)
        begin += rows * math.prod(tail) * getattr(torch, dtype).itemsize
    return places, begin


class Store:
    """All that is kept under one key, for outputs of these parts."""

    def __init__(self, key: str, parts: Mapping[str, Part]) -> None:
        self.key = key
        self.parts = {name: part for name, part in parts.items() if part.reads != NOTHING}
        self.files: dict[str, File] = {}
        self.places: dict[bytes, tuple[File, int]] = {}
        self.fresh: dict[bytes, Values] = {}  # not yet written
        self.held = 0  # bytes of these
        self.scan()

    def __contains__(self, address: bytes) -> bool:
        return address in self.places or address in self.fresh

    def scan(self) -> None:
        """Map what has been written since."""
        for place in sorted(directory().glob(f"{self.key}-*.features")):
            if place.name in self.files:
                continue
            try:
                found = File(place)
            except (OSError, ValueError):  # gone, or torn by a power failure
                continue
            self.files[place.name] = found
            self.places |= {address: (found, number) for number, address in enumerate(found.addresses)}

    def add(self, address: bytes, values: Values) -> None:
        """Keep the features of one example, in memory until `flush`."""
        self.fresh[address] = values
        self.held += sum(value.nbytes for value in values.values())

    def flush(self) -> None:
        """Write what was added. Raises OSError."""
        if not self.fresh:
            return
        ragged = [name for name, part in self.parts.items() if part.ragged]
        lengths = [len(values[ragged[0]]) if ragged else 1 for values in self.fresh.values()]
        rows = (
            ([number], {name: value[None] for name, value in values.items()})
            for number, values in enumerate(self.fresh.values())
        )
        self.write(list(self.fresh), lengths, rows)
        self.fresh, self.held = {}, 0

    def row(self, address: bytes) -> Values:
        """The features of one example, those of every token as long as it is."""
        if (values := self.fresh.get(address)) is not None:
            return values
        file, number = self.places[address]
        begin, end = int(file.begins[number]), int(file.begins[number + 1])
        return {
            name: file.tensors[name][begin:end] if part.ragged else file.tensors[name][number]
            for name, part in self.parts.items()
        }

    def size(self, lengths: Sequence[int]) -> int:
        """The bytes of examples of these lengths."""
        return sum(
            math.prod(part.tail) * part.dtype.itemsize * (sum(lengths) if part.ragged else len(lengths))
            for part in self.parts.values()
        )

    def write(self, addresses: Sequence[bytes], lengths: Sequence[int], computed: Computed) -> None:
        """A file with the features of these examples, whole or not at all. Raises OSError."""
        shapes = {
            name: (str(part.dtype).removeprefix("torch."), part.ragged, part.tail)
            for name, part in self.parts.items()
        }
        text = json.dumps({"count": len(addresses), "parts": shapes}).encode()
        text += b" " * (-len(text) % 4)  # so that the lengths are aligned
        head = len(text).to_bytes(8, "little") + text + b"".join(addresses)
        head += numpy.asarray(lengths, numpy.int32).tobytes()
        digest = hashlib.sha256(head).digest()
        place = directory() / f"{self.key}-{digest.hex()[:16]}.features"
        with cache.made(place, LARGEST) as beside, beside.open("wb") as file:
            file.write(digest + len(head).to_bytes(8, "little") + head)
            places, end = layout(shapes, lengths, 40 + len(head))
            file.truncate(end)
            begins = numpy.concatenate([[0], numpy.cumsum(lengths)])
            for numbers, values in computed:
                for name, part in self.parts.items():
                    size = math.prod(part.tail) * part.dtype.itemsize
                    for number, row in zip(numbers, values[name].cpu().contiguous(), strict=False):
                        first, own = (
                            (begins[number], row[: lengths[number]]) if part.ragged else (number, row)
                        )
                        file.seek(places[name] + int(first) * size)
                        file.write(own.reshape(-1).view(torch.uint8).numpy().tobytes())
        self.scan()

    def rows(self, addresses: Sequence[bytes], columns: int) -> Values:
        """The features of some examples, those of every token with zeros up to `columns`."""
        found = [self.row(address) for address in addresses]
        return {
            name: padded([row[name] for row in found], columns)
            if part.ragged
            else torch.stack([row[name] for row in found])
            for name, part in self.parts.items()
        }


def padded(rows: Sequence[Tensor], columns: int) -> Tensor:
    """(rows, columns, *tail), with zeros at the end of each."""
    out = rows[0].new_zeros(len(rows), columns, *rows[0].shape[1:])
    for number, row in enumerate(rows):
        out[number, : len(row)] = row
    return out
