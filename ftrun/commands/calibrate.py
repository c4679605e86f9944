"""Calibrate a finished run's probabilities: a temperature, and for several labels a threshold each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.commands._parser import Parser
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from ftrun.runs.run import Run


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    parser = Parser(prog="ftrun calibrate", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="run directory, or a directory written by merge or compose")
    add("--remove", action="store_true", help="take the calibration away again")
    options = parser.parse_args(arguments)

    from ftrun.runs.find import open_trained
    from ftrun.runs.terminal import say

    run = open_trained(options.run)
    if options.remove:
        from ftrun.experiments.calibrate import remove

        say(f"{run.path}: {'the calibration is removed' if remove(run) else 'it is not calibrated'}")
        return 0
    show(run)
    return 0


def show(run: Run) -> None:
    """Calibrate, and print what it does to the test rows."""
    from ftrun.experiments.calibrate import calibrate
    from ftrun.reports.calibrated import sections_of
    from ftrun.reports.pages.console import console
    from ftrun.reports.pages.terminal import on_terminal
    from ftrun.runs.terminal import say

    record: dict[str, Any] = calibrate(run)
    on_terminal(console(), sections_of(record))
    say(f"saved: {run.model_dir / 'config.json'} and {run.path / 'calibration.json'}")
    say(f"ftrun predict and evaluate use it: {command('evaluate', run.path)}")
    say(f"to take it away: {command('calibrate', run.path, '--remove')}")
