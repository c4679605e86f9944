"""Commands and settings as a person types them: quoted for the shell, settings for Hydra too."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from ftrun.runs.streams import CONTROL, escape

BARE = re.compile(r"(?:[A-Za-z_/]|\.\.?/)[\w./:+-]*", re.ASCII)  # Hydra reads it as the string that it is
WORDS = {"true", "false", "null", "nan", "inf"}  # but these


def command(*words: str | Path) -> str:
    """The command line `ftrun WORDS…`, for a shell; torchrun's, where several processes have a part in it."""
    texts = [str(each) for each in words]
    return " ".join([*program(texts), *map(word, texts)])


def program(words: list[str]) -> list[str]:
    """What starts a command line of these words as this process was started, one of so many."""
    total = int(os.environ.get("WORLD_SIZE") or 1)
    if total == 1 or not takes_several(words):
        return ["ftrun"]
    each = int(os.environ.get("LOCAL_WORLD_SIZE", total))
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", os.environ.get("MASTER_ADDR", "HOST")]
    machines = ["--nnodes", str(total // each), *meeting] if total > each else []
    return ["torchrun", *machines, "--nproc-per-node", str(each), "-m", "ftrun"]


def takes_several(words: list[str]) -> bool:
    """Whether several processes have a part in a command line: it trains, and they train together."""
    first = words[0] if words else "--help"
    trains = first in ("resume", "compare") or "=" in first or first.startswith(("-", "+", "~"))
    return trains and not {"--help", "-h", "--version"} & {first, *words}


def continuing(run: str | Path) -> str:
    """The end of a sentence about a run that is not finished."""
    return f"to continue it: {command('resume', run)}"


def prediction(place: str | Path) -> str:
    """The command that has a saved model predict."""
    return command("predict", place, "--input", "FILE", "--output", "FILE")


def word(text: str) -> str:
    """One word of a command line; control characters as bash, zsh and ksh spell them."""
    if not CONTROL.search(text) and "\n" not in text:
        return shlex.quote(text)
    spelt = re.sub(r"[\\']", r"\\\g<0>", text).replace("\n", "\\n").replace("\t", "\\t")
    return f"$'{CONTROL.sub(lambda match: escape(match[0]), spelt)}'"


def typed(name: str, value: str | Path) -> str:
    """name=value as a word of a command line."""
    return word(setting(name, value))


def setting(name: str, value: str | Path) -> str:
    """name=value as Hydra reads it."""
    return f"{name}={literal(str(value))}"


def literal(value: str) -> str:
    """A string in Hydra's grammar that means exactly this: neither a sweep, a number nor an interpolation."""
    if BARE.fullmatch(value) and value.lower() not in WORDS:
        return value
    inner = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    inner = re.sub(r'(\\*)"', r'\1\1\\"', inner)
    return '"' + re.sub(r"(\\+)$", r"\1\1", inner) + '"'
