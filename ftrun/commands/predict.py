"""Predict the rows of a file with a finished run's model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser
from ftrun.errors import counted

if TYPE_CHECKING:
    import argparse


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)

    from ftrun.data.tables import check_writable
    from ftrun.errors import listed
    from ftrun.runs.find import open_trained
    from ftrun.settings.read import read

    run = open_trained(options.run)
    check_writable(options.output, read(run.settings).task.endings)

    from ftrun.experiments.inference import FinishedRun
    from ftrun.runs.terminal import say

    finished = FinishedRun(run)
    data = finished.data(options.input, answered=False)
    rows, columns = data.rows.inputs, data.scorer.columns
    if taken := [name for name in columns if any(name in row for row in rows)]:
        word = "column" if len(taken) == 1 else "columns"
        say(f"{options.input} already has the {word} {listed(taken)}; {options.output} has predictions there")
    if finished.recalibration is not None:
        say(finished.recalibration.line())
    answers = {row.row: row.answer for row in finished.predict(data)}
    if (generator := data.task.generator(data)) is not None:
        answers |= generator.complete(finished.model.net, finished.settings.seed)
    empty = dict.fromkeys(columns)
    data.rows.write(options.output, [row | answers.get(at, empty) for at, row in enumerate(rows)])
    say(f"predicted {len(answers):,} of {counted(len(rows), 'row')}: {options.output}")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="ftrun predict", description=__doc__)
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="run directory, or a directory written by merge or compose"
    )
    parser.add_argument(
        "--input",
        metavar="FILE",
        required=True,
        help="file or directory as in task.train=, with the run's columns; labels are not needed",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        type=Path,
        help="file for the rows and their predictions: csv, tsv, jsonl or another format of the task",
    )
    return parser.parse_args(arguments)
