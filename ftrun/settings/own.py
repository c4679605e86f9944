"""Options of one's own, beside ftrun's: conf/ in the current directory, or the directory of --config-dir."""

from __future__ import annotations

import sys
from pathlib import Path

from ftrun import CONF
from ftrun.errors import ConfigError

BESIDE = Path("conf")  # which needs not be named
NAMES = ("--config-dir", "-cd")


def beside() -> Path | None:
    """conf/ in the current directory, where it has a group of options and is not ftrun's own."""
    groups = (path.name for path in CONF.iterdir() if path.is_dir())
    if not any((BESIDE / group).is_dir() for group in groups) or BESIDE.resolve() == CONF.resolve():
        return None
    return BESIDE


def with_beside(words: list[str]) -> list[str]:
    """The words of a command line with conf/ as --config-dir, unless they name a directory."""
    place = None if named(words) else beside()
    return words if place is None else [NAMES[0], str(place), *words]


def named(words: list[str]) -> list[Path]:
    """The directory of --config-dir, if one is given."""
    pairs = zip((word.partition("=") for word in words), [*words[1:], ""], strict=False)
    return [Path(joined or value) for (name, _, joined), value in pairs if name in NAMES]


def importable(words: list[str]) -> None:
    """Put the current directory, and the one that holds --config-dir, where user modules are found."""
    places = [Path.cwd(), *(place.resolve().parent for place in named(words))]
    sys.path += [str(place) for place in places if str(place) not in sys.path]


def refuse_hidden(words: list[str]) -> None:
    """Raises ConfigError where a user's option has the name of ftrun's own, which Hydra would take."""
    for place in [*named(words), *filter(None, [beside()])]:
        for word in words:
            group, _, names = word.partition("=")
            for file in (f"{group.partition('@')[0]}/{name}.yaml" for name in names.split(",")):
                if (
                    (place / file).is_file()
                    and (CONF / file).is_file()
                    and (place / file).read_bytes() != (CONF / file).read_bytes()
                ):
                    raise ConfigError(
                        f"{place / file} has the name of one of ftrun's own options, which comes first;"
                        " rename it, or start ftrun in another directory"
                    )
