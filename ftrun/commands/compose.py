"""Sum the LoRAs of several runs on one base, at given or searched weights, into one adapter or network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser, joined, numbers
from ftrun.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from ftrun.runs.run import Run

DENSITY = {"ties": 0.2, "dare": 0.1}  # what is kept in the papers: the top 20 %, and 10 % at random


def main(arguments: list[str]) -> int:
    """Entry point; `arguments` is what follows the command's name."""
    options = parse(arguments)
    refuse_mixed(options)
    weights = weights_of(options)
    grid = numbers("--grid", options.grid)

    from ftrun.data.rows import read_rows
    from ftrun.runs.artifacts import refuse_existing
    from ftrun.runs.run import Run

    runs = [Run.open(path) for path in options.runs]
    head = head_of(options, runs)
    output = options.output or runs[head].path / "composed"
    refuse_existing(output)

    from ftrun.experiments.lora.lowrank import read_update, refuse_other_bases, refuse_unsummable

    for run in runs:
        refuse_unsummable(run)
    if options.search:
        read_rows(options.search)  # a wrong file is said before the networks are loaded
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
    say(f"to ask it: ftrun predict {output} --input FILE --output FILE")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="ftrun compose", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="run directories, of strategy=lora")
    add("--weights", metavar="0.7,0.3", help="one for each run; below 0 subtracts it")
    add("--search", metavar="FILE", help="find the weights on these labelled rows instead")
    add("--text", metavar="COLUMN", help="of --search; else as in the run whose head serves")
    add("--label", metavar="COLUMN", help="of --search")
    add("--grid", default="0,0.25,0.5,0.75,1", help="of --search: the values each weight takes at first")
    add("--head", type=Path, metavar="RUN", help="whose head serves; default the first")
    add("--method", choices=["linear", "svd", "ties", "dare"], default="linear",
        help="linear, the exact sum; the others as peft has them")  # fmt: skip
    add("--rank", type=int, help="of svd, default the largest of the runs; of ties and dare, their sum")
    add("--density", type=float, help="share kept by ties (0.2, its paper's) and dare (0.1, its paper's)")
    add("--merge", action="store_true", help="fold the sum into the base: a whole network, not an adapter")
    add("--output", type=Path, metavar="DIR", help="a new directory; default RUN/composed")
    return parser.parse_args(joined(arguments, ("--weights", "--grid")))


def refuse_mixed(options: argparse.Namespace) -> None:
    """ConfigError for options that do not go together."""
    if bool(options.weights) == bool(options.search):
        raise ConfigError(
            "compose: give the weights, --weights 0.7,0.3, or rows to find them on, --search FILE"
        )
    if options.search and options.method != "linear":
        raise ConfigError(
            f"compose: --search looks among exact sums; with --method {options.method} give --weights"
        )
    if (options.text or options.label) and not options.search:
        raise ConfigError("compose: --text and --label name the columns of --search FILE")
    if options.rank is not None and (options.method == "linear" or options.rank < 1):
        raise ConfigError("compose: --rank is at least 1 and goes with --method svd, ties or dare")
    if options.density is not None and (options.method not in DENSITY or not 0 < options.density <= 1):
        raise ConfigError("compose: --density is above 0, at most 1 and goes with --method ties or dare")


def weights_of(options: argparse.Namespace) -> list[float]:
    """One number for each run; none yet with --search."""
    if not options.weights:
        return []
    weights = numbers("--weights", options.weights)
    if len(weights) != len(options.runs):
        raise ConfigError(
            f"--weights {options.weights}: {len(weights)} for {len(options.runs)} runs; each needs one"
        )
    return weights


def head_of(options: argparse.Namespace, runs: list[Run]) -> int:
    """Which of the runs brings the head."""
    if options.head is None:
        return 0
    places = [run.path.resolve() for run in runs]
    if options.head.resolve() not in places:
        raise ConfigError(f"--head {options.head} is none of the runs composed")
    return places.index(options.head.resolve())
