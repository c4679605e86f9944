"""Go on with an interrupted run as if it had never stopped."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Entry point; `arguments` is what follows the command's name."""
    parser = argparse.ArgumentParser(prog="ftrun resume", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    path = parser.parse_args(arguments).run

    from ftrun.runs.run import Run

    Run.open(path)  # a wrong directory is said before torch is loaded

    from ftrun.experiments.sequence import resume

    resume(path)
    return 0
