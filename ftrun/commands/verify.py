"""Prove a finished run again: its rows, files, scores, answers, its model elsewhere, that it resumes."""

from __future__ import annotations

import sys
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError
from ftrun.runs.artifacts import TOLERANCE, refuse_unfinished
from ftrun.runs.warm import shared

if TYPE_CHECKING:
    import argparse

    from ftrun.runs.run import Run


@shared()
def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; the exit code is 1 where a proof fails."""
    options = parser().parse_args(arguments)
    if not options.tolerance >= 0:
        raise ConfigError(f"verify: --tolerance must be at least 0, not {options.tolerance}")

    from ftrun.runs.run import Run

    run = Run.open(options.run)
    refuse_unfinished(run)
    if run.config.get("sequence"):
        raise ConfigError(f"{run.path} is a sequence of runs; verify one of the runs in it")

    home, path = run.home, run.path.resolve()
    if home != Path.cwd():
        sys.path.append(str(home))  # where the modules of one's own strategies and tasks are found
    with chdir(home):  # as it was where the run began: relative names of files stand in its predictions
        return proved_in(Run.open(path), options)


def proved_in(run: Run, options: argparse.Namespace) -> int:
    """Print each proof; the exit code."""
    from ftrun.runs.collector import importing
    from ftrun.runs.terminal import say

    with importing("torch"):
        from ftrun.experiments.verifying.again import resumed
        from ftrun.experiments.verifying.proofs import Verified, proved
    verified = Verified(run, options.tolerance)
    for proof in verified.proofs():
        say(proof.line())
    for what, asked in (("resume", options.resume), ("again", options.again)):
        if asked:
            found = proved(what, partial(resumed, run, what == "again"))
            say(found.line())
            if found.holds is False:
                verified.failed.add(what)
    if not verified.failed:
        return 0
    for change in verified.elsewhere():
        say(f"not as it was when the run ended: {change}")
    return 1


def parser() -> Parser:
    """The command's options."""
    found = Parser(prog="ftrun verify", description=__doc__, allow_abbrev=False)
    add = found.add_argument
    add("run", metavar="RUN", type=Path, help="directory of a finished run")
    add("--resume", action="store_true",
        help="also go on from checkpoints/last in a copy, and compare the bytes at its end")  # fmt: skip
    add("--again", action="store_true",
        help="also train a copy from the start, stop halfway, resume, and compare the bytes")  # fmt: skip
    add("--tolerance", type=float, default=TOLERANCE,
        help="largest difference allowed of a logit, probability or score; default: %(default)s")  # fmt: skip
    return found
