"""Add up the LoRA updates of several runs on one base network, with given or searched weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser, joined, numbers
from ftrun.errors import ConfigError, counted
from ftrun.runs.typed import prediction

if TYPE_CHECKING:
    import argparse

    from ftrun.runs.run import Run

DENSITY = {"ties": 0.2, "dare": 0.1}  # share kept in the papers: the largest 20 %, and 10 % at random


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)
    refuse_mixed(options)
    weights = weights_of(options)
    grid = numbers("--grid", options.grid)

    from ftrun.data.rows import read_rows
    from ftrun.runs.protected import refuse_existing
    from ftrun.runs.run import Run

    runs = [Run.open(path) for path in options.runs]
    head = head_of(options, runs)
    output = options.output or runs[head].path / "composed"
    refuse_existing(output)

    from ftrun.experiments.lora.lowrank import read_update, refuse_other_bases, refuse_unsummable

    for run in runs:
        refuse_unsummable(run)
    if options.search:
        read_rows(options.search)  # a wrong file is reported before the networks are loaded
    updates = [read_update(run) for run in runs]
    refuse_other_bases(updates)

    from ftrun.experiments.lora.compose import Composition, compose
    from ftrun.runs.terminal import say

    found = None
    if options.search:
        from ftrun.experiments.lora.weights import search

        columns = {name: getattr(options, name) for name in ("text", "label") if getattr(options, name)}
        weights, found = search(updates, head, options.search, columns, grid)
    density = DENSITY.get(options.method, 1.0) if options.density is None else options.density
    composition = Composition(updates, weights, head, options.method, options.rank, density)
    compose(composition, output, options.merge, found)
    say(f"saved: {output}")
    say(f"to use it: {prediction(output)}")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="ftrun compose", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="run directories of strategy=lora")
    add("--weights", metavar="0.7,0.3", help="one weight per run; a negative weight subtracts")
    add("--search", metavar="FILE", help="search for the weights on these labelled rows instead")
    add("--text", metavar="COLUMN", help="text column of FILE; default: as in the run of the head")
    add("--label", metavar="COLUMN", help="label column of FILE; default: as in the run of the head")
    add(
        "--grid",
        default="0,0.25,0.5,0.75,1",
        help="first values of each weight in a search; default: %(default)s",
    )
    add("--head", type=Path, metavar="RUN", help="run that provides the head; default: the first")
    add("--method", choices=["linear", "svd", "ties", "dare"], default="linear",
        help="linear is the exact sum, the others are those of peft; default: %(default)s")  # fmt: skip
    add(
        "--rank",
        type=int,
        help="rank of the result; default: the largest of the runs with svd, their sum with ties and dare",
    )
    add(
        "--density",
        type=float,
        help="share of values kept; default: 0.2 with ties, 0.1 with dare, as in their papers",
    )
    add(
        "--merge",
        action="store_true",
        help="fold the sum into the base and save a whole network instead of an adapter",
    )
    add("--output", type=Path, metavar="DIR", help="new directory; default: RUN/composed")
    return parser.parse_args(joined(arguments, ("--weights", "--grid")))


def refuse_mixed(options: argparse.Namespace) -> None:
    """Raises ConfigError for options that cannot be combined."""
    if bool(options.weights) == bool(options.search):
        raise ConfigError(
            "compose: give either the weights, --weights 0.7,0.3, or rows to search them on, --search FILE"
        )
    if options.search and options.method != "linear":
        raise ConfigError(
            f"compose: --search needs --method linear; with --method {options.method} give --weights"
        )
    if (options.text or options.label) and not options.search:
        raise ConfigError("compose: --text and --label name columns of --search FILE, which is missing")
    if options.rank is not None and (options.method == "linear" or options.rank < 1):
        raise ConfigError("compose: --rank must be at least 1, with --method svd, ties or dare")
    if options.density is not None and (options.method not in DENSITY or not 0 < options.density <= 1):
        raise ConfigError("compose: --density must be above 0 and at most 1, with --method ties or dare")


def weights_of(options: argparse.Namespace) -> list[float]:
    """One weight per run; none with --search."""
    if not options.weights:
        return []
    weights = numbers("--weights", options.weights)
    if len(weights) != len(options.runs):
        raise ConfigError(
            f"--weights {options.weights}: {counted(len(weights), 'weight')} for"
            f" {counted(len(options.runs), 'run')}; give one for each"
        )
    return weights


def head_of(options: argparse.Namespace, runs: list[Run]) -> int:
    """The index of the run that provides the head."""
    if options.head is None:
        return 0
    places = [run.path.resolve() for run in runs]
    if options.head.resolve() not in places:
        raise ConfigError(f"--head {options.head} is not one of the composed runs")
    return places.index(options.head.resolve())
