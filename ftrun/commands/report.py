"""Compare finished runs: a table, significance tests and plots, in the terminal or in a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError
from ftrun.reports import table
from ftrun.runs.collector import paused
from ftrun.runs.protected import refuse_directory, refuse_output


@paused()
def main(arguments: list[str]) -> int:
    """Exit code 0 even if some of the runs failed: showing that is what a report is for."""
    options = parse(arguments)
    if options.costs and (other := next((o for o in ("across", "sort", "plots") if vars(options)[o]), None)):
        raise ConfigError(f"report: --costs is a table of its own, without --{other}")
    if options.output is not None:
        refuse_output("report: --output ", Path(options.output))
    if options.plots is not None:
        refuse_directory("report: --plots ", Path(options.plots))
    if options.across:
        if options.sort:
            raise ConfigError(f"report: --sort {options.sort} is of a table of runs, and --across has none")
        from ftrun.reports.across.sections import write

        write(options.directories, options.format, options.output, options.plots)
    elif options.costs:
        from ftrun.reports import costs

        costs.write(options.directories, options.format, options.output)
    else:
        table.write(options.directories, options.format, options.output, options.plots, sort=options.sort)
    tell(options)
    return 0


def tell(options: argparse.Namespace) -> None:
    """Say which files there are; nothing where standard output is itself a file's text."""
    form = table.form_of(options.format, options.output)
    if options.output is None and form != "table":
        return
    from ftrun.runs.terminal import say

    plots = options.plots if form != "csv" else None  # which has none
    if written := [place for place in (options.output, plots) if place is not None]:
        say(f"saved: {' and '.join(written)}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="ftrun report", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("directories", nargs="+", metavar="DIR", help="a run, a sweep, or any directory with runs below it")
    add("--format", choices=["table", "markdown", "html", "csv"],
        help="default: table, or the format that FILE ends with")  # fmt: skip
    add("--sort", metavar="COLUMN", help="a column of the table or of the csv file; the best scores first")
    add(
        "--across",
        action="store_true",
        help="one verdict over several data sets: the runs of three or more, each with the same strategies",
    )
    add(
        "--costs",
        action="store_true",
        help="what time was spent on: the seconds of every phase, from composing the settings to the report",
    )
    add("--output", metavar="FILE", help="write to FILE; a table is written as markdown")
    add("--plots", metavar="DIR", help="also save the plots in DIR as PNG files; html contains them anyway")
    return parser.parse_args(arguments)
