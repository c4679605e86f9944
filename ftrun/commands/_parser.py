"""Command lines of words and options, of which a mistake is one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ftrun.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Says what is wrong as the rest of ftrun does: in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog.removeprefix('ftrun ')}: {message}")


def joined(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """Values that begin with a minus sign tied to their option: --weights -1,1 is --weights=-1,1."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] in options and word.startswith("-"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def numbers(option: str, text: str) -> list[float]:
    """Finite numbers with commas between them; ConfigError names the one that is none."""
    found = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise ConfigError(f"{option} {text}: '{part.strip()}' is not a number; write 0.7,0.3")
        found.append(value)
    return found
