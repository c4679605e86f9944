"""What runs compute and later ones need again: files in the user's cache, whole or absent, within a bound."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ftrun.runs.files import flush, umask_mode


def directory(kind: str) -> Path:
    """Where files of that kind are kept: $XDG_CACHE_HOME/ftrun/KIND, or ~/.cache/ftrun/KIND."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ftrun" / kind


@contextmanager
def made(place: Path, largest: int) -> Iterator[Path]:
    """A file to write beside `place`, which it then becomes, whole; then room is made.

    A reader and other writers find whole files only, whenever this process is killed. Raises OSError.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=place.parent, prefix=f".{place.stem}.")
    os.close(handle)
    try:
        yield Path(beside)
        with open(beside, "rb+") as file:
            flush(file)
        umask_mode(Path(beside))
        os.replace(beside, place)
    finally:
        Path(beside).unlink(missing_ok=True)
    make_room(place, largest)


def make_room(newest: Path, largest: int) -> None:
    """Remove what was used longest ago until the rest, the newest file included, has `largest` bytes."""
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
        if total > largest and file != newest:
            with suppress(PermissionError):  # Windows: another process has it open
                file.unlink(missing_ok=True)
