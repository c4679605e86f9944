"""What lease files say: whose process has what is in a directory, and whether it lives."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ftrun.errors import InUse
from ftrun.runs.leases.process import Process

SILENT = 120.0  # seconds without a sign of life, after which another machine's process is taken for dead
LOOKS = 5  # at names of which the highest is gone
GIVEN_BACK = "given back\n"  # what its process writes behind a lease that is another's to take
GONE = (errno.ENOENT, errno.ESTALE)  # of a file that another process has removed, on whatever machine


@dataclass(frozen=True)
class Holder:
    """Who has something, as the file of the lease says."""

    folder: Path
    number: int
    token: str
    process: Process | None  # None where the file is damaged
    known: bool | None  # whether it lives and has it; None where its signs of life alone can tell
    changed: float  # of the last sign of life, by the clock of the file server

    @cached_property
    def silent(self) -> float:
        """Seconds since the last sign of life, when this is asked first.

        One far ahead was given before the clock was set back: a process that lives gives another.
        """
        return abs(now(self.folder) - self.changed)

    @property
    def lives(self) -> bool:
        """Whether it is to be left alone."""
        return self.silent < SILENT if self.known is None else self.known

    def __str__(self) -> str:
        return f"{self.process or 'another process'} (last sign of life {self.silent:.0f} s ago)"


def holder(folder: Path, stem: str = "") -> Holder | None:
    """Who has it or had it last; None where that is nobody, or somebody else by now. Raises OSError."""
    for _ in range(LOOKS):
        if not (known := numbers(folder, stem)):
            return None
        try:
            return reading(folder, stem, known[-1])
        except OSError as error:
            if error.errno not in GONE:
                raise  # else its process has moved on meanwhile, or these names are old
    return None


def numbers(folder: Path, stem: str) -> list[int]:
    """Of the leases that are there, growing."""
    name = re.compile(rf"\.{re.escape(stem)}lease-(\d+)")
    try:
        found = map(name.fullmatch, os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(each[1]) for each in found if each)


def place_of(folder: Path, stem: str, number: int) -> Path:
    """The file of a lease on the directory, or on one of several things in it, the `stem`."""
    return folder / f".{stem}lease-{number}"


def reading(folder: Path, stem: str, number: int) -> Holder:
    """What a lease says. Raises OSError."""
    with open(place_of(folder, stem, number), encoding="utf-8", errors="replace") as file:
        text, changed = file.read(), os.fstat(file.fileno()).st_mtime  # of the open file: NFS asks anew
    first, _, rest = text.partition("\n")
    try:
        about: dict[str, Any] = json.loads(first)
        token, process, origin = str(about["token"]), Process.of(about["process"]), Path(about["folder"])
    except (ValueError, KeyError, TypeError):
        return Holder(folder, number, "", None, None, changed)
    known = False if rest else process.lives()
    if known and is_copy(folder, stem, origin, token):
        known = False
    return Holder(folder, number, token, process, known, changed)


def is_copy(folder: Path, stem: str, origin: Path, token: str) -> bool:
    """Whether a directory was copied with a lease in it, which the process has on the original."""
    if not origin.is_dir() or origin.samefile(folder):
        return False
    try:
        return any(
            token in place_of(origin, stem, number).read_text("utf-8") for number in numbers(origin, stem)
        )
    except (OSError, ValueError):
        return False


def now(folder: Path) -> float:
    """The time by the clock of the file server; by that of this machine where nothing can be written."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def in_use(what: str, by: Holder) -> InUse:
    """The sentence for what another process has."""
    return InUse(f"{what} is being made by {by}; wait or stop it")
