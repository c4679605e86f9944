"""Continue an interrupted run as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

from ftrun.commands._parser import Parser


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    parser = Parser(prog="ftrun resume", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
    path = parser.parse_args(arguments).run

    from ftrun.runs.run import Run

    Run.open(path)  # a wrong directory is reported before torch is loaded

    from ftrun.runs.collector import importing

    with importing("torch"):
        from ftrun.experiments.start import resume

    resume(path)
    return 0
