"""A data file's bytes, text and lines, unpacked where it is gzipped; errors name the line."""

from __future__ import annotations

import gzip
import zlib
from codecs import getincrementaldecoder
from typing import IO, TYPE_CHECKING

from ftrun.errors import DataError, near

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIECE = 1 << 16  # bytes read at once of what has no lines
UTF16 = (b"\xff\xfe", b"\xfe\xff")
BROKEN = (OSError, EOFError, zlib.error)  # what a file, or the gzip of one, raises when it cannot be read


def ending(path: Path) -> str:
    """The format that a file's name gives: ".csv" for a.csv, a.CSV and a.csv.gz."""
    return (path.with_suffix("") if packed(path) else path).suffix.lower()


def packed(path: Path) -> bool:
    """Whether the name says gzip."""
    return path.suffix.lower() == ".gz"


def open_bytes(path: Path) -> IO[bytes]:
    """The file opened for reading, gzip unpacked on the way; reading raises one of BROKEN."""
    return gzip.open(path, "rb") if packed(path) else path.open("rb")  # type: ignore[return-value]


def unreadable(path: Path, error: BaseException) -> DataError:
    """The one line about a file whose reading raised one of BROKEN."""
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return DataError(f"{path} is not a complete gzip file: {str(error).rstrip('.')}")
    return DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def bytes_of(path: Path) -> bytes:
    """All bytes of a file, unpacked; DataError when it cannot be read."""
    try:
        with open_bytes(path) as file:
            return file.read()
    except BROKEN as error:
        raise unreadable(path, error) from None


def text_of(path: Path) -> str:
    """The text of a UTF-8 file with line ends as \\n; DataError names the line where it is none."""
    data = bytes_of(path)
    if data.startswith(UTF16):
        raise DataError(f"{path} is UTF-16; save it as UTF-8")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise DataError(f"{path} is a binary file, not text (a NUL byte in line {line})")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, data.count(b"\n", 0, error.start) + 1, error) from None
    if not text.strip():
        raise DataError(f"{path} is empty")
    text = text.replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends, one in memory at a time; errors as of `text_of`."""
    empty = True
    for line in ended_lines_of(path):
        empty = False
        yield line[:-1] if line.endswith("\n") else line.removesuffix("\r")
    if empty:
        raise DataError(f"{path} is empty")


def ended_lines_of(path: Path) -> Iterator[str]:
    """The same with their ends, \\r\\n as \\n; none of an empty file."""
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                if number == 1 and line.startswith(UTF16):
                    raise DataError(f"{path} is UTF-16; save it as UTF-8")
                if b"\0" in line:
                    raise DataError(f"{path} is a binary file, not text (a NUL byte in line {number})")
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise not_utf8(path, number, error) from None
    except BROKEN as error:
        raise unreadable(path, error) from None


def pieces_of(path: Path) -> Iterator[str]:
    """The text in pieces of up to PIECE characters, wherever they end; errors as of `text_of`."""
    decoder = getincrementaldecoder("utf-8-sig")()
    line = 1
    try:
        with open_bytes(path) as file:
            while data := file.read(PIECE):
                if line == 1 and data.startswith(UTF16):
                    raise DataError(f"{path} is UTF-16; save it as UTF-8")
                yield decoder.decode(data)
                line += data.count(b"\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise not_utf8(path, line + error.object.count(b"\n", 0, error.start), error) from None
    except BROKEN as error:
        raise unreadable(path, error) from None


def not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    found = error.object[error.start : error.start + 1].hex()
    return DataError(f"{path}, line {line}: not valid UTF-8 (byte 0x{found}); save the file as UTF-8")


def read_text(path: Path) -> str:
    """A whole file of UTF-8 text, line breaks as "\\n"; DataError says what is wrong with it."""
    refuse_missing(path)
    return text_of(path)


def refuse_missing(path: Path) -> None:
    if not path.exists():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        where = "" if path.parent.is_dir() else f": there is no directory {path.parent}"
        raise DataError(f"{path} does not exist{where}{near(path.name, names)}")
