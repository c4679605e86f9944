"""Files that survive a kill and a full disk: replaced or appended to whole."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ftrun.errors import UserError, disk_full

# what a file system says that has no hard links
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EXDEV}


def write_atomically(path: Path, text: str) -> None:
    """Write beside, flush to the disk, rename: a reader finds the old file or the new one, never a half."""
    beside = path.with_name(f".{path.name}.{unique()}")
    try:
        with naming(path), open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            flush(file)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def unique() -> str:
    """Digits that end a name which no other process gives at the same time, on whatever machine."""
    return f"{secrets.randbits(63):019d}"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError inside, which on a full disk names no file, names this one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def disk_named(path: Path) -> Iterator[None]:
    """What a full disk refuses inside, whichever library says so, is a DiskFull that names a place."""
    try:
        yield
    except Exception as error:
        if (full := disk_full(error, path)) is None:
            raise
        raise full from error


@contextmanager
def beside(output: Path) -> Iterator[Path]:
    """A directory that becomes `output` when all has gone well, and nothing otherwise."""
    place = output.absolute().with_name(f".{output.name}.{unique()}")
    try:
        with disk_named(output):
            place.mkdir()
            yield place
            place.rename(output.absolute())
    finally:
        shutil.rmtree(place, ignore_errors=True)


def finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(value: Any) -> str:
    """The text of a JSON file such as result.json."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def umask_mode(path: Path) -> None:
    """Give a file the mode of one that is simply opened, where it was written through a temporary one.

    That one has the mode 0600 whatever the umask. Another mode was chosen by somebody, and stays.
    """
    if stat.S_IMODE(path.stat().st_mode) == 0o600:
        mask = os.umask(0o077)
        os.umask(mask)
        path.chmod(0o666 & ~mask)


def flush(file: IO[Any]) -> None:
    """Have everything written so far on the disk."""
    file.flush()
    os.fsync(file.fileno())


def exclusive(beside: Path, path: Path) -> None:
    """Give a file that is whole a further name, at once; FileExistsError where there is one of this name.

    Of several processes that want the same name, on whatever machine, one gets it. Where there are no hard
    links the new file may be read before it is whole.
    """
    try:
        os.link(beside, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with naming(path), open(path, "xb") as file:
            try:
                file.write(beside.read_bytes())
                file.flush()
            except OSError:
                path.unlink()
                raise


def free_space_check(path: str | os.PathLike[str], needed_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold; the path itself need not exist yet."""
    free = shutil.disk_usage(existing(path)).free
    if free < needed_bytes:
        raise UserError(
            f"no space left for {path}: the run needs {size_in_words(needed_bytes)},"
            f" {size_in_words(free)} are free; "
            "free some space, or choose another directory with hydra.run.dir=DIR"
        )


def why_unwritable(folder: Path) -> str | None:
    """Why no file can be created in a directory, found by creating one; None where one can be.

    DiskFull where the disk takes no more, which is no fault of the directory's.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        error.filename = str(folder)  # not that of a file which was there for a moment
        if (full := disk_full(error)) is not None:
            raise full from None
        return (error.strerror or str(error)).lower()


def existing(path: str | os.PathLike[str]) -> Path:
    """The path, or the nearest directory above it that is there."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return place


def size_in_words(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def sync(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
