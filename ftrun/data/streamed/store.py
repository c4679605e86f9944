"""Files of what was made of a shard: whole or absent, named after all that they depend on, read in pieces.

A file holds sections of numbers or bytes, then what is to be known of them as JSON. It is read and not
mapped: a page of a map that cannot be read any more, as on a network file system, would end the process.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import accumulate
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from ftrun.data.streamed.shards import UNBOUNDED, directory
from ftrun.errors import DataError, UserError, disk_full
from ftrun.runs import cache

if TYPE_CHECKING:
    from pathlib import Path

    from numpy import ndarray

END = b"ftrun s1"  # how such a file ends, behind the size of its JSON
OPEN = 32  # files that are held open at once
PIECE = 1 << 22  # numbers that are looked at together

_open: OrderedDict[Path, IO[bytes]] = OrderedDict()


class Writer:
    """Sections that grow at the same time, and `facts` about them."""

    def __init__(self, first: str, file: IO[bytes], opened: ExitStack) -> None:
        self.opened = opened
        self.files: dict[str, IO[bytes]] = {first: file}
        self.sizes: dict[str, int] = {first: 0}
        self.facts: dict[str, Any] = {}

    def add(self, section: str, data: bytes) -> None:
        if section not in self.files:
            self.files[section], self.sizes[section] = self.opened.enter_context(TemporaryFile()), 0
        self.files[section].write(data)
        self.sizes[section] += len(data)

    def close(self) -> None:
        """The other sections go behind the first, and the facts behind them."""
        whole, *others = self.files.values()
        for other in others:
            other.seek(0)
            copyfileobj(other, whole, 1 << 20)
        facts = json.dumps({"sections": self.sizes, "facts": self.facts}).encode()
        whole.write(facts + len(facts).to_bytes(8, "little") + END)


@contextmanager
def written(name: str, first: str) -> Iterator[Writer]:
    """Write the file of that name; UserError where the disk has no room for it."""
    place = directory() / name
    try:
        with cache.made(place, UNBOUNDED) as beside:
            with ExitStack() as files:
                writer = Writer(first, files.enter_context(beside.open("wb")), files)
                yield writer
                writer.close()
    except OSError as error:
        if (full := disk_full(error)) is not None:
            raise full from None
        raise UserError(
            f"{place.parent}: {error.strerror or error}; what is read of task.stream=true is kept there"
            " (XDG_CACHE_HOME=DIRECTORY chooses another place)"
        ) from None


class Stored:
    """A file of `written`, by its facts and where its sections begin."""

    def __init__(self, place: Path, found: dict[str, Any]) -> None:
        self.place, self.facts = place, found["facts"]
        ends = [*accumulate(found["sections"].values(), initial=0)]
        self.begins = dict(zip(found["sections"], ends, strict=False))
        self.sizes: dict[str, int] = found["sections"]

    @classmethod
    def open(cls, name: str) -> Stored | None:
        """The file of that name; None where there is none that is whole."""
        place = directory() / name
        try:
            size = place.stat().st_size
            with place.open("rb") as file:
                file.seek(max(0, size - 8 - len(END)))
                length, end = int.from_bytes(file.read(8), "little"), file.read()
                if end != END or length > size:
                    return None
                file.seek(size - 8 - len(END) - length)
                found = json.loads(file.read(length))
        except (OSError, ValueError):
            return None
        whole = sum(found["sections"].values()) + length + 8 + len(END) == size
        return cls(place, found) if whole else None

    def read(self, section: str, begin: int, size: int) -> bytes:
        """Bytes of a section; DataError where the file is no longer what it was."""
        if size <= 0 or section not in self.sizes:
            return b""
        try:
            file = _opened(self.place)
            file.seek(self.begins[section] + begin)
            found = file.read(size)
        except OSError as error:
            raise self.gone(error.strerror or str(error)) from None
        if len(found) != size:
            raise self.gone("it is shorter than it was")
        return found

    def gone(self, why: str) -> DataError:
        return DataError(
            f"{self.place}, which holds what was read of task.stream=true, cannot be read: {why};"
            " it is made again when the run goes on"
        )


def _opened(place: Path) -> IO[bytes]:
    if place not in _open:
        while len(_open) >= OPEN:
            _open.popitem(last=False)[1].close()
        _open[place] = place.open("rb", buffering=0)
    _open.move_to_end(place)
    return _open[place]


def opened_all(names: Sequence[str]) -> list[Stored]:
    """The files of these names; DataError where one of them went meanwhile."""
    found = [(name, Stored.open(name)) for name in names]
    if gone := [name for name, file in found if file is None]:
        raise DataError(f"{directory() / gone[0]} was removed while it was needed; start again")
    return [file for _, file in found if file is not None]


def let_go() -> None:
    """Close what is held open."""
    while _open:
        with suppress(OSError):
            _open.popitem()[1].close()


class Numbers(Sequence[Any]):
    """A section of several files as one array of numbers, (length,), read where it is looked at."""

    def __init__(self, files: Iterable[Stored], section: str, dtype: Any) -> None:
        import numpy

        self.files, self.section, self.dtype = list(files), section, numpy.dtype(dtype)
        sizes = [file.sizes.get(section, 0) // self.dtype.itemsize for file in self.files]
        self.ends = numpy.array([*accumulate(sizes, initial=0)])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, place: Any) -> Any:
        """A number, or an array of a slice."""
        import numpy

        if not isinstance(place, slice):
            if not -len(self) <= place < len(self):
                raise IndexError(place)
            return self._part(place % len(self), 1)[0]
        begin, end, step = place.indices(len(self))
        assert step == 1
        return self._part(begin, max(0, end - begin)) if end > begin else numpy.zeros(0, self.dtype)

    def _part(self, begin: int, count: int) -> ndarray:
        import numpy

        file, found = int(numpy.searchsorted(self.ends, begin, side="right")) - 1, []
        while count > 0:
            size = min(count, int(self.ends[file + 1]) - begin)
            wide = self.dtype.itemsize
            data = self.files[file].read(self.section, (begin - int(self.ends[file])) * wide, size * wide)
            found.append(numpy.frombuffer(data, self.dtype))
            begin, count, file = begin + size, count - size, file + 1
        return found[0] if len(found) == 1 else numpy.concatenate(found)

    def pieces(self) -> Iterator[tuple[int, ndarray]]:
        """All of it, so many numbers at once, with where they begin."""
        for begin in range(0, len(self), PIECE):
            yield begin, self[begin : begin + PIECE]
