"""The terminal, and what is written where there is none."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftrun.runs.console import Console


class Trimmed(io.StringIO):
    """Standard output without blanks at the ends of lines."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.stdout.encoding or "utf-8"

    def write(self, text: str) -> int:
        return sys.stdout.write(re.sub(r" +(?=\n)", "", text))

    def flush(self) -> None:
        sys.stdout.flush()


ENDLESS = 100_000  # columns of a pipe


def console() -> Console:
    """The terminal; in a pipe a line is as wide as what it says, and rich respects NO_COLOR."""
    from ftrun.runs.console import Console

    terminal = Console()
    if terminal.is_terminal:
        return terminal
    width = None if "COLUMNS" in os.environ else ENDLESS
    return Console(file=Trimmed(), width=width)
