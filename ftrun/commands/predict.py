"""Predict the rows of a file with a finished run's model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.commands._parser import Parser
from ftrun.errors import counted

if TYPE_CHECKING:
    import argparse

    from ftrun.data.sources import Placed
    from ftrun.tasks.scorer import Answer


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)

    from ftrun.data.sources import look
    from ftrun.data.tables import check_writable
    from ftrun.errors import listed
    from ftrun.runs.find import open_trained
    from ftrun.runs.home import files_of
    from ftrun.runs.protected import refuse_output
    from ftrun.settings.read import read

    run = open_trained(options.run)
    check_writable(options.output, read(run.settings).task.endings)
    refuse_output("predict: --output ", options.output, [options.input, *files_of(run.settings)])

    look({"kind": run.settings["task"]["kind"], "test": options.input})

    from ftrun.runs.collector import importing

    with importing("torch"):
        from ftrun.experiments.inference import FinishedRun
    from ftrun.runs.terminal import say

    finished = FinishedRun(run)
    data = finished.data(options.input, answered=False)
    rows = data.rows.inputs
    if finished.recalibration is not None:
        say(finished.recalibration.line())
    answers = finished.answers(data)
    more = added(rows, answers, data.scorer.columns, options.output)
    names = dict.fromkeys(name for own in more for name in own)
    if taken := [name for name in names if any(name in row for row in rows)]:
        word = "column" if len(taken) == 1 else "columns"
        say(f"{options.input} already has the {word} {listed(taken)}; {options.output} has predictions there")
    data.rows.write(options.output, [row | own for row, own in zip(rows, more, strict=True)])
    say(f"predicted {len(answers):,} of {counted(len(rows), 'row')}: {options.output}")
    return 0


def added(
    rows: list[Placed], answers: dict[int, Answer], columns: tuple[str, ...], output: Path
) -> list[dict[str, Any]]:
    """What each row gets: its place where several files are read, and its prediction, empty if it has none.

    Where a cell can be no object there is a column for each label's probability.
    """
    from ftrun.tasks.scorer import as_columns

    several, found = len({row.file for row in rows}) > 1, []
    for number, row in enumerate(rows):
        place = {"file": row.file, "file_row": row.number} if several else {}
        answer = dict.fromkeys(columns) | answers.get(number, {})
        found.append(place | (answer if output.suffix.lower() == ".jsonl" else as_columns(answer)))
    return found


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="ftrun predict", description=__doc__)
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="run directory, or a directory written by merge or compose"
    )
    parser.add_argument(
        "--input",
        metavar="FILE",
        required=True,
        help="file, picture or directory as in task.train=, with the run's columns; labels are not needed",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        type=Path,
        help="file for the rows and their predictions: csv, tsv, jsonl or another format of the task",
    )
    return parser.parse_args(arguments)
