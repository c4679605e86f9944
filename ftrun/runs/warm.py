"""What the runs of one process share, a sweep's or a comparison's: made once for each content.

A value is kept under plain values and files as they are (path, time of change, size). Nothing is kept outside
of `shared`, as a single run would gain nothing from it. Weights are not kept: read again from the files that
the system has in memory, they cost less than a copy.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ftrun import ASSETS

MOST = 2  # values of a kind; another takes the place of the one used longest ago
EMBEDDED = "embedded:"

Value = TypeVar("Value")
Stamp = tuple[str, int, int]  # of a file: its path, the time of its last change in ns, its size in bytes

_kept: dict[str, OrderedDict[str, Any]] | None = None  # kind → key → value; None: a run of its own


@contextmanager
def shared() -> Iterator[None]:
    """Runs in here share what they have in common; at the end it is let go."""
    begun = begin()
    try:
        yield
    finally:
        if begun:
            end()


def begin() -> bool:
    """From now on runs share; whether they did not before."""
    global _kept
    if _kept is not None:
        return False
    _kept = {}
    return True


def end() -> None:
    """Let go of everything."""
    global _kept
    _kept = None


def sharing() -> bool:
    """Whether anything is kept."""
    return _kept is not None


def once(kind: str, content: Iterable[Any], make: Callable[[], Value], most: int = MOST) -> Value:
    """What `make` returns, or returned earlier for this content; the caller must not change it.

    It is made anew where runs do not share, or where the content has no bytes, as a function has none.
    """
    if _kept is None or (key := digest(content)) is None:
        return make()
    values = _kept.setdefault(kind, OrderedDict())
    if key not in values:
        while len(values) >= most:
            values.popitem(last=False)
        values[key] = make()
    values.move_to_end(key)
    found: Value = values[key]
    return found


def digest(content: Iterable[Any]) -> str | None:
    """A hash of values by all that they hold; None where something in them has no bytes."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=5)
    pickler.fast = True  # equal values in equal bytes, whether or not they share objects
    try:
        for value in content:
            pickler.dump(value)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(stream.getvalue()).hexdigest()


def stamps(values: Any) -> list[Stamp]:
    """The files that strings among the values name: themselves, by a pattern, or all below a directory.

    A name on the Hub has none: what it means is asked once for the runs of a process. None are looked at
    where runs do not share.
    """
    if _kept is None:
        return []
    return [
        stamp for name in sorted(set(strings(values))) for file in files(name) for stamp in stamp_of(file)
    ]


def strings(values: Any) -> Iterator[str]:
    """Every string in nested lists and dicts."""
    if isinstance(values, str | Path):
        yield str(values)
    elif isinstance(values, dict):
        yield from strings(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from strings(value)


def files(name: str) -> list[Path]:
    """The files that one string means, DIR:SPLIT included."""
    path = ASSETS / name.removeprefix(EMBEDDED) if name.startswith(EMBEDDED) else Path(name).expanduser()
    if not path.exists() and path.name.partition(":")[1]:
        path = Path(str(path).rpartition(":")[0])
    try:
        if path.is_dir():
            return sorted(Path(place, file) for place, _, found in os.walk(path) for file in found)
        matched = glob.glob(str(path), recursive=True) if glob.has_magic(str(path)) else []
        return [path] if path.is_file() else sorted(map(Path, matched))
    except (OSError, ValueError):  # a text that is too long for a path, or has a null byte
        return []


def stamp_of(file: Path) -> list[Stamp]:
    try:
        found = file.stat()
    except OSError:  # it went meanwhile
        return []
    return [(str(file.absolute()), found.st_mtime_ns, found.st_size)]
