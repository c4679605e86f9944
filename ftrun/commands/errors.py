"""Show what a finished run gets wrong, what it confuses, and which given labels are in doubt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError, counted

if TYPE_CHECKING:
    import argparse

    from ftrun.runs.run import Run

WRITTEN = (".csv", ".jsonl")


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)

    from ftrun.data.tables import write_table
    from ftrun.reports.mistakes.showing import (
        answered_in,
        judged,
        learned_too_little,
        sections_of,
        table_of,
    )
    from ftrun.reports.pages.console import console
    from ftrun.reports.pages.terminal import on_terminal
    from ftrun.runs.run import Run
    from ftrun.runs.terminal import say
    from ftrun.tasks.scorer import as_columns, prediction_lines

    run = Run.open(options.run)
    if options.output is not None:
        refuse_unwritable(options.output, run)
    if options.split == "test":
        lines = answered_in(run)
    else:
        from ftrun.experiments.probing import answered_out_of_fold

        rows, how = answered_out_of_fold(run)
        lines = prediction_lines(rows)
        say(f"train: answered out-of-fold, by {how}")
    found, screen = judged(lines, str(options.run)), console()
    on_terminal(screen, sections_of(found, options.split, options.most, screen.width))
    if options.split == "test" and found.doubts and (why := learned_too_little(run, lines)):
        say(f"the doubts say little of the labels, as the run {why}")
    if options.output is not None:
        table = table_of(found)
        flat = options.output.suffix.lower() != ".jsonl"
        write_table(options.output, [as_columns(row) for row in table] if flat else table)
        say(f"{counted(len(table), 'row')}: {options.output}")
    return 0


def refuse_unwritable(output: Path, run: Run) -> None:
    """ConfigError for a file that cannot be written, or must not: the run's data, a part of a run."""
    from ftrun.data.tables import check_writable
    from ftrun.runs.home import files_of
    from ftrun.runs.protected import refuse_output

    refuse_output("errors: --output ", output, files_of(run.settings))
    check_writable(output, WRITTEN)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Raises ConfigError for a usage error."""
    parser = Parser(prog="ftrun errors", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="directory of a finished run")
    add("--most", metavar="N", type=int, default=10, help="rows shown of each kind; default: %(default)s")
    add("--output", metavar="FILE", type=Path,
        help="write all rows that are wrong or in doubt, with every column: csv or jsonl")  # fmt: skip
    add("--split", choices=["test", "train"], default="test",
        help="train: answered out-of-fold by a probe on the frozen network; default: test")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.most < 1:
        raise ConfigError(f"errors: --most {options.most} is not 1 or more")
    return options
