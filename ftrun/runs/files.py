"""Files that survive a kill and a full disk: replaced or appended to whole, locked while a process lives."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ftrun.errors import UserError, disk_full

try:
    import fcntl
except ImportError:  # Windows has no advisory locks: nothing is ever seen as locked there
    fcntl = None  # type: ignore[assignment]


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


def append_line(path: Path, *lines: dict[str, Any]) -> None:
    """Append one JSON object or several, a line each; they are on the disk when this returns."""
    text = "".join(json.dumps(finite(values), allow_nan=False) + "\n" for values in lines)
    with naming(path), open(path, "a+b") as file:
        drop_torn_line(file)
        file.write(text.encode())
        flush(file)


def drop_torn_line(file: IO[bytes]) -> None:
    """Cut the file after its last line end; only a kill or a full disk leaves anything behind it."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a JSON-lines file; none when there is no such file."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    try:
        found: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")  # at once is twice as fast
        found = found if len(found) == len(lines) else [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    odd = next((number for number, each in enumerate(found, 1) if not isinstance(each, dict)), None)
    if odd is not None:
        raise UserError(f"{path} is damaged: line {odd} is no JSON object")
    return found


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


class Lock:
    """Holds a file until `release` or the end of the process; BlockingIOError when another process has it."""

    def __init__(self, path: Path) -> None:
        self.release: Any = lambda: None
        self.move_to(path)

    def move_to(self, path: Path) -> None:
        """Hold another file, and only then let go of the one before."""
        before, handle = self.release, os.open(path, os.O_RDWR)
        self.release = weakref.finalize(self, os.close, handle)
        for _ in range(20):
            if _try_lock(handle, exclusive=True):
                before()
                return
            time.sleep(0.02)  # `is_locked` holds it for an instant
        self.release()
        raise BlockingIOError(f"{path} is locked")


def replace_locked(path: Path, text: str, lock: Lock | None) -> None:
    """Write atomically a file that this process holds, and hold the new one; there is no moment without."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with naming(path), open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            flush(file)
        if lock is not None:
            lock.move_to(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the file."""
    with open(path, "rb") as file:
        return not _try_lock(file.fileno(), exclusive=False)


def _try_lock(handle: int, *, exclusive: bool) -> bool:
    """False when another has it; True also where the file system knows no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True


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
    """Why no file can be created in a directory, found by creating one; None where one can be."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
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
