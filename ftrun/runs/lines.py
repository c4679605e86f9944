"""Files of JSON lines: appended to by one process, read by many."""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path
from typing import IO, Any

from ftrun.errors import UserError
from ftrun.runs.files import finite, flush, naming


class Lines:
    """A file of JSON lines that this process alone writes, open from the first that is appended on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._end: Any = lambda: None

    def append(self, *values: dict[str, Any]) -> None:
        """One line for each; a kill leaves what is appended, a power cut what `sync` has on the disk."""
        data = "".join(json.dumps(finite(each), allow_nan=False) + "\n" for each in values).encode()
        try:
            with naming(self.path):
                handle = self._opened()
                while data:
                    data = data[os.write(handle, data) :]
        except OSError:
            self.close()  # so that the next line does not follow half of this one
            raise

    def sync(self) -> None:
        """Have on the disk what was appended."""
        if self._file is not None:
            with naming(self.path):
                os.fsync(self._file.fileno())

    def size(self) -> int:
        """Bytes on the disk."""
        self.sync()
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, size: int) -> None:
        """Keep so many bytes, without a last line that was cut off; UserError where there are fewer."""
        if (have := self.size()) < size:
            raise UserError(
                f"{self.path} has {have} bytes, but had {size} at the checkpoint; restore the file"
            )
        if self.path.exists():
            with open(self.path, "r+b") as file:
                file.truncate(size)
                drop_torn_line(file)
                flush(file)

    def close(self) -> None:
        """Let go of the file; harmless when it is not open."""
        self._file = None
        self._end()

    def _opened(self) -> int:
        if self._file is None:
            self._file = open(self.path, "a+b", buffering=0)
            self._end = weakref.finalize(self, self._file.close)
            drop_torn_line(self._file)
        return self._file.fileno()


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
