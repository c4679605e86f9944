"""List runs: their state, age, score and size on the disk, the one that wrote last first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser

if TYPE_CHECKING:
    import argparse

STATES = ("finished", "running", "interrupted", "failed", "damaged")


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)

    import json

    from ftrun.errors import counted
    from ftrun.reports.numbers import size
    from ftrun.reports.pages.console import console
    from ftrun.reports.upkeep.listing import as_json, as_table, chosen, listed

    runs = listed(options.directories)
    kept = chosen(runs, options.state, options.sort)
    if options.json:
        for run in kept:
            print(json.dumps(as_json(run), ensure_ascii=False))
        return 0
    screen = console()
    if kept:
        screen.print(as_table(kept))
    whole = f"{counted(len(kept), 'run')}, {size(sum(run.bytes for run in kept)) or '0 B'}"
    of = "" if len(kept) == len(runs) else f" of {len(runs)}"
    screen.print(f"{whole}{of}", style="dim", soft_wrap=True)
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Raises ConfigError for a usage error."""
    parser = Parser(prog="ftrun ls", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("directories", nargs="*", metavar="DIR", default=["outputs"],
        help="runs, or directories with runs below them; default: outputs")  # fmt: skip
    add("--state", action="append", default=[], choices=STATES, help="only these; may be given again")
    add("--sort", choices=["age", "score", "size", "run"], default="age", help="default: age")
    add("--json", action="store_true", help="one JSON object a line, with raw numbers")
    return parser.parse_args(arguments)
