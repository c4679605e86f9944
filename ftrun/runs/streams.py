"""Standard output and standard error that take any text and outlive their readers.

What users write, names of files, labels and runs, may hold anything: no character of it controls the
terminal, none fails where the terminal has another encoding, and a reader that goes (`| head`) ends no run.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

# C0 without tab and line end, C1, and what reorders a line (Boucher and Anderson 2021, "Trojan Source")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PLAIN = {  # what ftrun itself prints, where the encoding has it not
    "·": "-", "…": "...", "→": "->", "←": "<-", "↓": "v", "↑": "^", "−": "-", "–": "-", "—": "-", "±": "+-",
    "×": "x", "²": "2", "½": "1/2", "√": "sqrt", "‘": "'", "’": "'", "“": '"', "”": '"', "─": "-", "━": "-",
    "╸": "-", "╺": "-",
}  # fmt: skip
BAR = re.compile("\r|(?:\n|\x1b\\[A)*")  # tqdm's: back to the start of a line, or some lines up
GONE = {errno.EPIPE, errno.EIO}  # the reader has exited, the terminal was closed


def shown(text: str) -> str:
    """The text with every control character, tab and line end excepted, as its escape: \\x1b, \\u202e."""
    return CONTROL.sub(lambda match: escape(match[0]), text)


def escape(character: str) -> str:
    """One character as the escape of a Python string."""
    number = ord(character)
    return (
        f"\\x{number:02x}" if number < 128 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
    )


def in_other_letters(error: UnicodeError) -> tuple[str, int]:
    """What an encoding does not have, in letters that all have; an error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(each) or escape(each) for each in text), error.end


codecs.register_error("ftrun", in_other_letters)


class Output:
    """A text stream that escapes control characters and writes into the void once its file is lost.

    `styled` is the same stream for text whose escapes are meant, that of rich. `failure` is why the file was
    lost, or None.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.styled = Styled(self)
        self.failure: OSError | None = None
        self.told = False  # that it was lost
        if isinstance(stream, io.TextIOWrapper):
            self.safely(lambda: stream.reconfigure(errors="ftrun"))

    def write(self, text: str) -> int:
        beginning = BAR.match(text) if self.stream is sys.__stderr__ else None
        free = beginning.end() if beginning else 0
        self.safely(lambda: self.stream.write(text[:free] + shown(text[free:])))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        self.safely(self.stream.flush)

    def safely(self, action: Callable[[], Any]) -> None:
        """Do it; where the file fails, what it would get goes nowhere from here on."""
        try:
            action()
        except OSError as error:
            self.failure = self.failure or error
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Styled:
    """An output without its escaping."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def write(self, text: str) -> int:
        self.output.safely(lambda: self.output.stream.write(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.output, name)


@contextmanager
def outputs() -> Iterator[tuple[Output, Output]]:
    """Standard output and standard error as such streams inside; flushed at the end."""
    occupy()
    before = sys.stdout, sys.stderr
    out, error = (each if isinstance(each, Output) else Output(each) for each in before)
    sys.stdout, sys.stderr = out, error
    try:
        yield out, error
    finally:
        out.flush()
        error.flush()
        sys.stdout, sys.stderr = before


def occupy() -> None:
    """Where a process has been started without standard streams (`>&-`), they go nowhere.

    Otherwise the first file that is opened would get their number, and all that is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))


def newly_lost() -> bool:
    """Whether standard output has been lost, and this was not asked before."""
    out = sys.stdout
    if not isinstance(out, Output) or out.failure is None or out.told:
        return False
    out.told = True
    return True
