"""Watch runs while they train: how far each is, with its curves; Ctrl-C ends the watching, not the runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError

if TYPE_CHECKING:
    import argparse


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)

    from ftrun.reports.pages.console import console
    from ftrun.reports.upkeep.watching import BARS, Watch, as_table, looks

    screen, watch = console(), Watch(options.directories)
    bars = BARS[shows(BARS[True])]
    first = watch.look()
    if not screen.is_terminal:
        screen.print(as_table(first, bars, len(first)))
        return 0
    from rich.live import Live

    try:
        with Live(as_table(first, bars, screen.height - 2), console=screen, auto_refresh=False) as live:
            for runs in looks(watch, options.every):
                live.update(as_table(runs, bars, screen.height - 2), refresh=True)
    except KeyboardInterrupt:
        pass
    return 0


def shows(text: str) -> bool:
    """Whether standard output can show these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def parse(arguments: list[str]) -> argparse.Namespace:
    """Raises ConfigError for a usage error."""
    parser = Parser(prog="ftrun watch", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("directories", nargs="*", metavar="DIR", default=["outputs"],
        help="runs, or directories with runs below them; default: outputs")  # fmt: skip
    add("--every", metavar="SECONDS", type=float, default=2.0, help="between two looks; default: %(default)s")
    options = parser.parse_args(arguments)
    if not options.every >= 0.1:
        raise ConfigError(f"watch: --every {options.every:g} is not 0.1 or more")
    return options
