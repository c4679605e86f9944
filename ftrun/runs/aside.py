"""Directories that are removed although another machine may be reading a file of them."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

from ftrun.runs.files import unique

# what a network file system says of a directory with a file that is read elsewhere: it keeps it as .nfsN
OPEN_ELSEWHERE = {errno.ENOTEMPTY, errno.EEXIST, errno.ESTALE, errno.EBUSY}
ASIDE = re.compile(r"\.\w+\.(new|old)\.\d+|\.\w+\.\d+")


def discard(place: Path) -> None:
    """Remove a directory; put it aside for `clear` where another machine reads a file of it."""
    try:
        shutil.rmtree(place)
    except OSError as error:
        if error.errno not in OPEN_ELSEWHERE:
            raise
        place.rename(place.with_name(f".{place.name}.{unique()}"))


def clear(checkpoints: Path) -> None:
    """Remove what was put aside, as far as nobody reads it any more."""
    for place in checkpoints.glob(".*.*"):
        if ASIDE.fullmatch(place.name):
            shutil.rmtree(place, ignore_errors=True)
