"""Continue an interrupted run as if it had never stopped."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser

if TYPE_CHECKING:
    from ftrun.runs.run import Run


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    parser = Parser(prog="ftrun resume", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
    path = parser.parse_args(arguments).run

    from ftrun.runs.run import Run

    run = Run.open(path)  # a wrong directory is reported before torch is loaded
    if not run.finished:
        run.refuse_edited()
        path = at_home(run)

    from ftrun.runs.collector import importing

    with importing("torch"):
        from ftrun.experiments.start import resume

    resume(path)
    return 0


def at_home(run: Run) -> Path:
    """Go to the directory in which the run began, where its files are; the path of the run from there.

    DataError for a file that is neither there nor here.
    """
    from ftrun.runs.home import note, refuse_lost
    from ftrun.runs.terminal import say

    refuse_lost(run.config, run.path, run.environment)
    home = run.home
    if home == Path.cwd():
        return run.path
    say(note(run.path, home))
    path = run.path.resolve()
    os.chdir(home)
    sys.path.append(str(home))  # where the modules of one's own strategies and tasks are found
    return path
