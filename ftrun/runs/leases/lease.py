"""Leases: one process, of all machines that see a directory, makes what is in it.

A lease is a file `.lease-N`, and the one with the highest number counts. It comes into being whole by a hard
link, which on every file system, NFS from version 3 on included, one of several wins; locks and appends are
not relied on. Its process gives signs of life: it sets the file's time to the file server's. Another takes
the next number where the process is known to be dead, or where it is on another machine, silent for
`SILENT` seconds and for `WATCHED` more. Clocks of two machines are never compared.

Why there is one holder: numbers only grow. A lease is given back by a mark in it, and its file goes with what
it was for or when there is a higher one; so what a process does late, when others have gone on, touches
numbers that no longer count. Two that find the same lease dead want the same next number. One that was shown
an old list of names, as NFS may, is shown the new one after it has changed the directory, and leaves. A
process that was silent does as one that takes over, in `renew`: it moves to the next number, which fails
where another has it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ftrun.errors import InUse
from ftrun.runs.files import exclusive, unique
from ftrun.runs.leases import beats
from ftrun.runs.leases import holder as held
from ftrun.runs.leases.holder import GIVEN_BACK, GONE, Holder, holder, in_use, numbers, place_of, reading
from ftrun.runs.leases.process import own
from ftrun.runs.terminal import say

WATCHED = 25.0  # seconds: after an outage of the file server all look silent that are about to give a sign
LOOKS = 0.5  # seconds between two looks


def clock() -> float:
    """Seconds that pass on this machine, on Linux also while it sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """The right to make what is in a directory, until `release`, the end of the process, or a takeover."""

    def __init__(self, folder: Path, what: str, stem: str = "") -> None:
        """Take it; `what` it is for, in messages. Raises InUse where a living process has it, and OSError."""
        self.folder, self.what, self.stem = folder.resolve(), what, stem
        self.token, self.process = unique(), own()
        self.number, self.lost = 0, False
        self._lock = threading.Lock()
        self._alive = clock()  # before the last sign of life that came through
        self._take()
        beats.begin(self)

    @property
    def path(self) -> Path:
        return place_of(self.folder, self.stem, self.number)

    @property
    def ours(self) -> bool:
        """Whether this process has it; one that was forked from the one that has it does not."""
        return self.number > 0 and not self.lost and self.process.number == os.getpid()

    def beat(self) -> None:
        """A sign of life, from a thread; that the lease is gone is found by `check`."""
        with self._lock, suppress(OSError):
            before = clock()
            if self.ours:
                os.utime(self.path)
                self._alive = before

    def check(self) -> None:
        """Raise InUse where another process has taken over; costs nothing while none can have."""
        if not self.ours or clock() - self._alive > held.SILENT / 2:
            self.renew()

    def renew(self) -> None:
        """Raise InUse where another process has taken over; certain, for it moves to the next number."""
        if not self.ours:
            raise self._taken()
        with self._lock:
            before, after = clock(), place_of(self.folder, self.stem, self.number + 1)
            try:
                os.utime(self.path)  # first, as the next one has its time from the beginning
                exclusive(self.path, after)
            except OSError as error:
                taken = isinstance(error, FileExistsError) and not self._wrote(self.number + 1)
                if taken or error.errno in GONE:
                    self.lost = True
                    raise self._taken() from None
                if not isinstance(error, FileExistsError):
                    raise
            former, self.number = self.path, self.number + 1
            former.unlink(missing_ok=True)
            self._alive = before

    def release(self, gone: bool = False) -> None:
        """Give it back; `gone` where nothing is left to go on with. Harmless when repeated."""
        beats.end(self)
        self._give_back(gone)

    def __del__(self) -> None:
        with suppress(KeyboardInterrupt):  # one more, which cannot be raised from here
            if self.__dict__.get("number") and not sys.is_finalizing():  # the process's end gives it back too
                self._give_back(gone=False)

    def _give_back(self, gone: bool) -> None:
        if not self.ours:
            return
        with self._lock, suppress(OSError):
            path, self.number = self.path, 0
            if gone:
                path.unlink()
                return
            with open(path, "r+", encoding="utf-8") as file:  # which another may have removed
                file.seek(0, os.SEEK_END)
                file.write(GIVEN_BACK)

    def _take(self) -> None:
        about = {"token": self.token, "process": asdict(self.process), "folder": str(self.folder)}
        beside = self.folder / f".{self.stem}lease.{unique()}"
        try:
            while not self.number:
                number = self._free() + 1
                beside.write_text(
                    json.dumps(about) + "\n", encoding="utf-8"
                )  # anew: it may have been removed
                self._alive = clock()
                self.number = number if self._won(beside, number) else 0
        finally:
            beside.unlink(missing_ok=True)
        for lower in numbers(self.folder, self.stem):
            if lower < self.number:
                place_of(self.folder, self.stem, lower).unlink(missing_ok=True)

    def _free(self) -> int:
        """The number of the lease that may be taken over, 0 where there is none. Raises InUse."""
        found = holder(self.folder, self.stem)
        if found is None:
            return 0
        if found.lives or (found.known is None and not still(found, self.stem, self.what)):
            raise in_use(self.what, found)
        return found.number

    def _won(self, beside: Path, number: int) -> bool:
        """Whether this number is now ours, and the highest."""
        place = place_of(self.folder, self.stem, number)
        try:
            exclusive(beside, place)
        except FileNotFoundError:  # swept up by one that has taken over
            if not self.folder.is_dir():
                raise
            return False
        except FileExistsError:
            if not self._wrote(number):
                return False
        if numbers(self.folder, self.stem)[-1] != number:  # the names that were seen before were old
            place.unlink(missing_ok=True)
            return False
        return True

    def _wrote(self, number: int) -> bool:
        """Whether a lease is ours though it was there already: NFS may ask twice."""
        try:
            return reading(self.folder, self.stem, number).token == self.token
        except OSError:
            return False

    def _taken(self) -> InUse:
        """The sentence with which a process ends that has lost it."""
        found = holder(self.folder, self.stem)
        if found is None or found.token == self.token:
            return InUse(
                f"{self.what} is no longer held by this process, which ends and changes nothing there"
            )
        return InUse(f"{self.what} was taken over by {found} while this process was silent; it ends here")


def still(found: Holder, stem: str, what: str) -> bool:
    """Whether the silent process of another machine stays silent while it is watched, by whatever clock."""
    say(f"{what}: {found.process or 'its process'} is silent for {found.silent:.0f} s; looking once more")
    begun = clock()
    while clock() - begun < WATCHED:
        time.sleep(LOOKS)
        again = holder(found.folder, stem)
        if again is None or again.lives or again.changed != found.changed:
            return again is None
    return True
