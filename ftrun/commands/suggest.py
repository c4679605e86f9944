"""Choose the rows of an unlabelled file from which a finished run would learn most, to be labelled next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError, counted, listed

if TYPE_CHECKING:
    import argparse

    from ftrun.experiments.active.suggesting import Suggestion

FEW = 2  # labels
LITTLE = "with two labels this gained about a point over random rows where it was measured, or nothing"


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)

    from ftrun.data.sources import look
    from ftrun.data.tables import check_writable, write_table
    from ftrun.runs.find import open_trained
    from ftrun.runs.home import files_of
    from ftrun.runs.protected import refuse_existing, refuse_output

    run = open_trained(options.run)
    check_writable(options.output)
    refuse_existing(options.output)  # it may hold the labels that somebody has filled in
    refuse_output("suggest: --output ", options.output, [options.input, *files_of(run.settings)])
    look({"kind": run.settings["task"]["kind"], "test": options.input})

    from ftrun.runs.collector import importing

    with importing("torch"):
        from ftrun.experiments.active.suggesting import suggestion
    from ftrun.reports.verdicts.more_rows import expected, no_better_than_majority
    from ftrun.runs.terminal import say

    doubt = no_better_than_majority(run)
    found = suggestion(run, options.input, options.rows, sure=not doubt)
    say(how(found, doubt))
    names = [name for name in found.rows[0].answer if any(name in each.row for each in found.rows)]
    if names:
        say(f"{options.input} already has {listed(names)}; {options.output} has what the run says there")
    write_table(options.output, table_of(found))
    say(expected(run, len(found.rows), options.curve))
    one = len(found.labels) == 1
    empty = f"column {found.labels[0]!r} is empty" if one else f"columns {listed(found.labels)} are empty"
    say(f"{counted(len(found.rows), 'row')} to label: {options.output} ({empty})")
    return 0


def how(found: Suggestion, doubt: str) -> str:
    """By what the rows were chosen, in a sentence."""
    out_of = f"{counted(len(found.rows), 'row')} chosen out of {found.pool:,}"
    if doubt:
        return f"{out_of} by diversity alone, as the run's uncertainty is not to be trusted: {doubt}"
    few = found.classes <= FEW
    honest = f"; {LITTLE}" if few else ""
    return f"{out_of} by uncertainty and diversity{honest}"


def table_of(found: Suggestion) -> list[dict[str, Any]]:
    """The rows as they are written: their own columns, the label empty, and what the run says of them."""
    several = len({each.row.file for each in found.rows}) > 1
    places = [{"file": each.row.file, "file_row": each.row.number} if several else {} for each in found.rows]
    return [
        {**each.row, **dict.fromkeys(found.labels), **place, **each.answer}
        for each, place in zip(found.rows, places, strict=True)
    ]


def parse(arguments: list[str]) -> argparse.Namespace:
    """Raises ConfigError for a usage error."""
    parser = Parser(prog="ftrun suggest", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="run directory, or a directory written by merge or compose")
    add("--input", metavar="FILE", required=True,
        help="file or directory as in task.train=, with the run's columns; rows with a label are left out",
    )  # fmt: skip
    add("--rows", metavar="N", type=int, default=50, help="rows to choose; default: %(default)s")
    add("--output", metavar="FILE", type=Path, default=Path("next.csv"),
        help="csv, tsv or jsonl for the rows in the order of their choice; default: %(default)s")  # fmt: skip
    add("--curve", metavar="DIR", nargs="+", default=[],
        help="where runs on fewer or more rows are, for what more rows are expected to bring;"
        " default: beside RUN")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.rows < 1:
        raise ConfigError(f"suggest: --rows {options.rows} is not 1 or more")
    return options
