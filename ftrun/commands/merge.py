"""Fold a finished run's LoRA into its network, verified; or average several runs (a model soup).

Several runs, or a directory of runs, are sorted by their score on validation, and each is added to the
average of weights if that score does not fall (Wortsman et al. 2022). The result is a checkpoint for plain
transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError
from ftrun.runs.artifacts import TOLERANCE
from ftrun.runs.typed import prediction, typed

if TYPE_CHECKING:
    import argparse

    from ftrun.runs.run import Run


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)

    from ftrun.runs.find import find_runs
    from ftrun.runs.run import Run

    first = Path(options.runs[0])
    runs = [first] if len(options.runs) == 1 and not first.is_dir() else find_runs(options.runs)
    if len(runs) > 1:
        return average([Run.open(path) for path in runs], options)
    if options.method:
        raise ConfigError(f"merge: --method {options.method} averages several runs, and {first} is one")
    return fold(Run.open(runs[0] if runs else first), options)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="ftrun merge", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run directory of strategy=lora, or several runs to be averaged",
    )
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="new directory; default: RUN/merged, of several the best's RUN/soup",
    )
    add(
        "--method",
        choices=["greedy", "uniform"],
        help="of several runs: those that do not harm the score on validation, or all; default: greedy",
    )
    add(
        "--dtype",
        choices=["fp32", "bf16", "fp16"],
        help="saved precision, cast after the check; default: fp32",
    )
    add(
        "--tolerance",
        type=float,
        help=f"largest allowed difference of a logit; default: {TOLERANCE:g}",
    )
    options = parser.parse_args(arguments)
    if options.tolerance is not None and not options.tolerance >= 0:
        raise ConfigError(f"merge: --tolerance must be at least 0, not {options.tolerance}")
    return options


def fold(run: Run, options: argparse.Namespace) -> int:
    """One run's update into its weights."""
    from ftrun.runs.artifacts import MERGED, low_rank
    from ftrun.runs.protected import refuse_existing

    low_rank(run, "so there is no weight equal to weight and adapter together; nothing can be merged")
    output = options.output or run.path / MERGED
    refuse_existing(output)

    from ftrun.experiments.lora.merge import merge, of_run
    from ftrun.runs.terminal import say

    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    merge(of_run(run), output, options.dtype or "fp32", tolerance)
    say(f"saved: {output}")
    say(f"to use it: {prediction(output)}; to train from it: {typed('model.name', output)}")
    return 0


def average(runs: list[Run], options: argparse.Namespace) -> int:
    """Several runs into one network."""
    for name in ("dtype", "tolerance"):
        if getattr(options, name) is not None:
            raise ConfigError(f"merge: --{name} is for folding one run, and {len(runs)} are given")

    from ftrun.experiments.soup.ingredients import ingredients
    from ftrun.runs.protected import refuse_existing

    found = ingredients(runs)
    output = options.output or found[0].run.path / "soup"
    refuse_existing(output)

    from ftrun.experiments.soup.greedy import soup
    from ftrun.runs.terminal import say

    soup(found, output, options.method or "greedy")
    say(f"saved: {output}")
    say(f"to use it: {prediction(output)}; to train from it: {typed('model.name', output)}")
    return 0
