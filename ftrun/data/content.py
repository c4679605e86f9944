"""A data file's bytes, text, lines and JSON, unpacked where it is gzipped; errors name the line."""

from __future__ import annotations

import errno
import gzip
import json
import lzma
import os
import re
import zipfile
import zlib
from codecs import getincrementaldecoder
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ftrun.errors import DataError, near, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Span = tuple[int, int]  # where a part of a file begins and ends: bytes, or row groups
LONGEST = 81  # characters of a name in a message
PIECE = 1 << 16  # bytes read at once
LINE = 16 << 20  # bytes of a line of a table at most, which is one row
PROSE = 256 << 20  # the same of plain text: text8, a corpus of one line, has 100 MB
WHOLE = 1 << 30  # bytes of a file that is one JSON value, and is held in memory
UTF16 = (b"\xff\xfe", b"\xfe\xff")
BROKEN = (OSError, EOFError, zlib.error)  # what a file, or the gzip of one, raises when it cannot be read
# what a member of a zip raises as well: damaged, encrypted, or compressed in a way that Python does not know
UNREADABLE = (*BROKEN, zipfile.BadZipFile, ValueError, RuntimeError, lzma.LZMAError)
NAMELESS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES)  # a path that leads nowhere, whatever is there


def ending(path: Path) -> str:
    """The format that a file's name gives: ".csv" for a.csv, a.CSV and a.csv.gz."""
    return (path.with_suffix("") if packed(path) else path).suffix.lower()


def packed(path: Path) -> bool:
    """Whether the name says gzip."""
    return path.suffix.lower() == ".gz"


def open_bytes(path: Path) -> IO[bytes]:
    """The file opened for reading, gzip unpacked on the way; reading raises one of BROKEN."""
    return gzip.open(path, "rb") if packed(path) else path.open("rb")  # type: ignore[return-value]


def unreadable(path: Path, error: BaseException, lines: int = 0) -> DataError:
    """The one line about a file whose reading raised one of BROKEN, after so many lines."""
    place = f" (after line {lines:,})" if lines else ""
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return DataError(f"{path} is not a complete gzip file{place}: {str(error).rstrip('.')}")
    return DataError(f"{path} cannot be read{place}: {getattr(error, 'strerror', None) or error}")


def text_of(path: Path, rows: bool = True) -> str:
    """The text of a UTF-8 file with line ends as \\n; DataError names the line where it is none.

    A line has at most LINE bytes; a file that is no `rows` is one value, and has at most WHOLE.
    """
    data = b"".join(_checked(path, LINE if rows else WHOLE, WHOLE if not rows else None))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, data.count(b"\n", 0, error.start) + 1, error) from None
    if not text.strip():
        raise DataError(f"{path} is empty")
    text = text.replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")


def _checked(path: Path, longest: int, most: int | None) -> Iterator[bytes]:
    """The bytes of a text file in pieces; DataError for what is no text, and for more than is read."""
    line, held, whole = 1, 0, 0  # the line reached, how many bytes of it have been read, and of all
    try:
        with open_bytes(path) as file:
            while piece := file.read(PIECE):
                if not whole and piece.startswith(UTF16):
                    raise DataError(f"{path} is UTF-16; save it as UTF-8")
                if (nul := piece.find(b"\0")) >= 0:
                    raise binary(path, line + piece.count(b"\n", 0, nul))
                ends = [place for mark in (b"\n", b"\r") if (place := piece.find(mark)) >= 0]
                if held + min(ends, default=len(piece)) > longest:
                    raise too_long(path, line, longest)
                whole += len(piece)
                if most is not None and whole > most:
                    raise DataError(f"{path} has more than {mib(most)}; as .jsonl it can have any size")
                last = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
                held = len(piece) - last - 1 if ends else held + len(piece)
                line += piece.count(b"\n")
                yield piece
    except BROKEN as error:
        raise unreadable(path, error) from None


def lines_of(path: Path, span: Span | None = None) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends, one in memory at a time; errors as of `text_of`.

    Of a span of bytes those that begin in it; a line belongs to one of the spans that make up a file.
    """
    empty = span is None or span[0] == 0
    for line in ended_lines_of(path, LINE, span):
        empty = False
        yield line[:-1] if line.endswith("\n") else line.removesuffix("\r")
    if empty:
        raise DataError(f"{path} is empty")


def ended_lines_of(path: Path, longest: int = LINE, span: Span | None = None) -> Iterator[str]:
    """The same with their ends, \\r\\n as \\n; none of an empty file."""
    begin, end = span or (0, None)
    number, first = 0, 0  # of the line, and where the first one begins
    try:
        with open_bytes(path) as file:
            if begin:
                file.seek(begin - 1)
                first = begin - 1 + len(file.readline(longest + 1))
            place = first
            while (end is None or place < end) and (line := file.readline(longest + 1)):
                number, place = number + 1, place + len(line)
                if number == 1 and not begin and line.startswith(UTF16):
                    raise DataError(f"{path} is UTF-16; save it as UTF-8")
                if b"\0" in line:
                    raise binary(path, number + lines_before(path, first))
                if len(line) > longest:
                    raise too_long(path, number + lines_before(path, first), longest)
                yield line.decode("utf-8" if begin or number > 1 else "utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise not_utf8(path, number + lines_before(path, first), error) from None
    except BROKEN as error:
        raise unreadable(path, error, number + lines_before(path, first)) from None


def lines_before(path: Path, place: int) -> int:
    """The lines that end before a byte."""
    found = 0
    with open_bytes(path) as file:
        while place and (piece := file.read(min(PIECE, place))):
            found, place = found + piece.count(b"\n"), place - len(piece)
    return found


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


def binary(path: Path, line: int) -> DataError:
    return DataError(f"{path} is a binary file, not text (a NUL byte in line {line})")


def too_long(path: Path, line: int, longest: int) -> DataError:
    return DataError(f"{path}, line {line} has more than {mib(longest)}; split it into several")


def mib(size: int) -> str:
    return f"{size >> 20:,} MiB"


def parsed(text: str, place: str, decode: Callable[[str], Any] = json.loads) -> Any:
    """What `decode` makes of a JSON text; DataError for what no table can hold, else its JSONDecodeError."""
    try:
        value = decode(text)
        if re.search(r"\\u[dD]", text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise DataError(f"{place}: lists and objects stand too deep in each other") from None
    except UnicodeEncodeError:
        raise DataError(f"{place}: half of a surrogate pair, which is not a character") from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # of Python's limit on the digits of a whole number
        raise DataError(f"{place}: a number has more digits than can be read") from None
    return value


def read_text(path: Path) -> str:
    """A whole file of UTF-8 text, line breaks as "\\n"; DataError says what is wrong with it."""
    refuse_missing(path)
    return text_of(path)


def place_of(source: str) -> Path:
    """The path that a source names; DataError for a name that no file can have or that leads nowhere."""
    try:
        path = Path(source).expanduser()
        os.lstat(path)
    except RuntimeError:
        raise DataError(f"{source}: there is no user {source.split('/')[0][1:]!r}") from None
    except ValueError:
        raise DataError(f"{source!r} is no name of a file: it holds a NUL character") from None
    except OSError as error:
        if error.errno in NAMELESS:
            raise DataError(
                f"{shortened(source, LONGEST)} cannot be read: {os.strerror(error.errno).lower()}"
            ) from None
    return path


def refuse_missing(path: Path, which: str = "") -> None:
    """DataError where nothing is at a path, with what is there of a similar name, or where its link leads."""
    if os.path.exists(path):
        return
    if path.is_symlink():
        try:
            path.stat()
        except OSError as error:
            leads = (
                "to itself" if error.errno == errno.ELOOP else f"to {os.readlink(path)}, which does not exist"
            )
            raise DataError(f"{path}{which} is a symbolic link {leads}") from None
    where = "" if path.parent.is_dir() else f": there is no directory {path.parent}"
    raise DataError(f"{path}{which} does not exist{where}{near(path.name, beside(path))}")


def beside(path: Path) -> list[str]:
    """The names that stand in the directory of a path."""
    try:
        return sorted(os.listdir(path.parent))
    except OSError:
        return []
