"""The argument parser of all commands; a usage error is one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from ftrun.errors import ConfigError, near

# argparse's own sentences for a value that a type refuses, and for one that is none of several
INVALID = re.compile(r"argument ([^:]+): invalid (\w+) value: '(.*)'", re.DOTALL)
CHOICE = re.compile(r"argument ([^:]+): invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL)
KINDS = {"int": "a whole number", "float": "a number"}


class Parser(argparse.ArgumentParser):
    """Raises usage errors as ConfigError: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        if (found := INVALID.fullmatch(message)) and found[2] in KINDS:
            message = f"{found[1]} {found[3]}: expected {KINDS[found[2]]}"
        elif found := CHOICE.fullmatch(message):
            possible = found[3].replace("'", "").split(", ")
            message = f"{found[1]} {found[2]}: {choices(found[2], possible)}"
        raise ConfigError(f"{self.prog.removeprefix('ftrun ')}: {message}")


def choices(value: str, possible: Sequence[str]) -> str:
    """What there is to choose in the place of a value that is none of it."""
    return f"possible: {', '.join(possible)}{near(value, possible)}"


def joined(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """The arguments with negative values joined to their option: --weights -1,1 becomes --weights=-1,1."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] in options and word.startswith("-"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def numbers(option: str, text: str) -> list[float]:
    """Finite numbers separated by commas; raises ConfigError for anything else."""
    found = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise ConfigError(
                f"{option} {text}: '{part.strip()}' is not a number; expected numbers like 0.7,0.3"
            )
        found.append(value)
    return found
