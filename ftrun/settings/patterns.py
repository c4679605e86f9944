"""Regular expressions over the names of weights, as plain transformers names them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from ftrun.errors import ConfigError, listed

OWN = "net."  # before the names of a network, in ftrun's
NEAREST = 3  # names that are told


def compiled(setting: str, pattern: str) -> re.Pattern[str]:
    """The pattern; ConfigError, with the setting's name, for what is no regular expression."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{setting}={pattern} is no regular expression: {error}") from None


def matching(setting: str, pattern: str, names: Iterable[str], words: Sequence[str] = ()) -> set[str]:
    """The names of weights in which the pattern is found; ConfigError, with the nearest, where it is in none.

    Names are those of plain transformers: ftrun's begin with `net.`, which no pattern sees. `words` are other
    values that the setting takes.
    """
    known = list(names)
    wanted = compiled(setting, pattern)
    found = {name for name in known if wanted.search(plain(name))}
    if not found:
        raise ConfigError(
            f"{setting}={pattern} is found in no name of a weight; the nearest are"
            f" {listed(nearest(pattern, [*words, *map(plain, known)]))}"
        )
    return found


def plain(name: str) -> str:
    """The name of a weight without ftrun's own beginning."""
    return name.removeprefix(OWN)


def nearest(pattern: str, names: Iterable[str]) -> list[str]:
    """Weights, and modules that have some, whose names are most like what a pattern says literally."""
    literal = re.sub(r"\[\^?(\\?.).*?\]", r"\1", pattern)  # of a class its first character
    literal = re.sub(r"[\\^$()?*+]", "", literal)
    possible: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        possible |= dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    found = get_close_matches(literal, possible, NEAREST, cutoff=0.4)
    return found or list(possible)[-NEAREST:]
