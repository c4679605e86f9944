"""What runs compute and later ones need again: files in the user's cache, whole or absent, within a bound.

Many machines may share one: what several want is made by the first, and what is in use is not removed.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ftrun.errors import InUse
from ftrun.runs.files import flush, umask_mode
from ftrun.runs.leases import holder
from ftrun.runs.leases.lease import Lease
from ftrun.runs.terminal import say

WAIT = 0.2  # seconds between two looks at what another process makes
ABANDONED = 24 * 3600.0  # seconds, after which what somebody was writing is a killed process's


def directory(kind: str) -> Path:
    """Where files of that kind are kept: $XDG_CACHE_HOME/ftrun/KIND, or ~/.cache/ftrun/KIND."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ftrun" / kind


@contextmanager
def making(place: Path) -> Iterator[None]:
    """One process at a time, of all that share the cache, makes in here what is to be kept at `place`.

    The caller looks first whether it is there, and again in here, as it may have waited for another's. Of a
    killed process one of those that wait takes the place. After one that ended and kept nothing, as on a full
    disk, each makes it for itself; so does one that cannot write there.
    """
    lease = alone(place)
    try:
        yield
    finally:
        if lease is not None:
            lease.release(gone=True)


def alone(place: Path) -> Lease | None:
    """The right to make it, waited for while another process does; None where each makes it for itself."""
    waited = False
    while True:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lease = Lease(place.parent, str(place), f"{place.name}.")
        except OSError:
            return None
        except InUse as error:
            if not waited:
                say(f"waiting for another process: {error}")
            waited = True
            time.sleep(WAIT)
            continue
        if waited and lease.number == 1 and not place.exists():
            lease.release(gone=True)
            return None
        return lease


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
    """Remove what was used longest ago until the rest, the newest file included, has `largest` bytes.

    Who reads a file for long sets its time again and again (`leases.beats`): one that was used in the last
    `holder.SILENT` seconds, by the clock of the file server, stays, whatever its size. Raises OSError.
    """
    found = []
    for file in newest.parent.iterdir():
        try:
            status = file.stat()
        except OSError:  # another process made room
            continue
        found.append((file != newest, -status.st_mtime, status.st_size, file))
    total, now = 0, -min((changed for _, changed, _, _ in found), default=0.0)
    for _, changed, size, file in sorted(found):
        unused = now + changed
        if file.name.startswith("."):  # a lease, or what is being written
            unneeded = unused > ABANDONED
        else:
            total += size
            unneeded = total > largest and file != newest and unused > holder.SILENT
        if unneeded:
            with suppress(PermissionError):  # Windows: another process has it open
                file.unlink(missing_ok=True)
