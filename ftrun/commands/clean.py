"""Show what of runs can go, with sizes, and remove it when you say so.

Checkpoints of finished runs are needed by no command: model/ is what is evaluated, exported and built on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser

if TYPE_CHECKING:
    import argparse

    from ftrun.reports.upkeep.removable import Removable


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)

    from ftrun.reports.numbers import size
    from ftrun.reports.upkeep.listing import bytes_of
    from ftrun.reports.upkeep.removable import removable
    from ftrun.runs.find import find_runs
    from ftrun.runs.terminal import say

    there = [name for name in options.directories if Path(name).is_dir() or name not in DEFAULT]
    found = removable(find_runs(there), options.failed, options.caches)
    if not found:
        say(f"nothing to remove in {', '.join(options.directories)}")
        return 0
    sizes = {one.place: bytes_of([one.place]) for one in found}
    whole = size(sum(sizes.values()))
    show(found, sizes, options.list)
    if not options.yes:
        if not sys.stdin.isatty():
            say(f"{whole} can go; nothing was removed: add --yes")
            return 0
        if input(f"remove {whole}? [y/N] ").strip().lower() not in ("y", "yes"):
            say("nothing was removed")
            return 0
    left = [one.place for one in found if not one.remove()]
    gone = sum(sizes.values()) - sum(sizes[place] for place in left)
    say(f"removed {size(gone) or '0 B'}")
    if left:
        more = f" and {len(left) - SHOWN:,} more" if len(left) > SHOWN else ""
        say(f"left, in use or not writable: {', '.join(map(str, left[:SHOWN]))}{more}")
        return 1
    return 0


DEFAULT = ["outputs"]
SHOWN = 3  # places that could not be removed, by name


def show(found: list[Removable], sizes: dict[Path, int], every: bool) -> None:
    """A line for each kind; with `every`, one for each place below it."""
    from ftrun.reports.numbers import size
    from ftrun.reports.pages.console import console
    from ftrun.reports.upkeep.removable import WHY

    screen = console()
    for kind, why in WHY.items():
        places = [one.place for one in found if one.kind == kind]
        if places:
            total = size(sum(sizes[place] for place in places))
            screen.print(f"{total:>8}  {kind} ({len(places):,}): {why}", soft_wrap=True)
        for place in sorted(places, key=lambda place: -sizes[place]) if every else []:
            screen.print(f"{size(sizes[place]):>8}    {place}", style="dim", soft_wrap=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Raises ConfigError for a usage error."""
    parser = Parser(prog="ftrun clean", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("directories", nargs="*", metavar="DIR", default=DEFAULT,
        help="runs, or directories with runs below them; default: outputs")  # fmt: skip
    add("--failed", action="store_true", help="failed runs too, with all that they have written")
    add("--caches", action="store_true",
        help="tokens, features and the like in ~/.cache/ftrun too, which runs compute again")  # fmt: skip
    add("--list", action="store_true", help="name every place")
    add("--yes", action="store_true", help="remove without asking")
    return parser.parse_args(arguments)
