"""What is not clear about a file, asked on a terminal; elsewhere the likeliest is taken, and said."""

from __future__ import annotations

import sys
from typing import Any

from ftrun.tasks.guessing.kinds import Guess
from ftrun.tasks.guessing.labels import Doubt
from ftrun.tasks.guessing.sources import guess


def settled(found: Guess, source: str, given: dict[str, Any]) -> Guess:
    """The guess for a source, with what the person at the terminal, if there is one, says of its doubts."""
    if not is_terminal():
        return found
    while doubts := [doubt for doubt in found.doubts if name_of(doubt) not in given]:
        said = answer(doubts[0])
        several = said.startswith("[") and said.endswith("]")
        given = given | {name_of(doubts[0]): said[1:-1].split(",") if several else said}
        found = guess(source, given)
    return found


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def name_of(doubt: Doubt) -> str:
    """As `guess` takes it: `kind`, or the name of a setting of the task."""
    return "kind" if doubt.setting == "task" else doubt.setting.partition(".")[2]


def answer(doubt: Doubt) -> str:
    """One of what is possible; an empty line, or the end of the input, means what was guessed."""
    while True:
        try:
            said = input(f"{doubt.setting}: {', '.join(doubt.possible)}? [{doubt.taken}] ").strip()
        except EOFError:
            said = ""
        if not said or said in doubt.possible:
            return said or doubt.taken
        print(f"{said!r} is none of these")
