"""Fold a finished run's LoRA into its network, verified, as a checkpoint for plain transformers."""

from __future__ import annotations

from pathlib import Path

from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError
from ftrun.runs.artifacts import TOLERANCE
from ftrun.runs.typed import prediction, typed


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    parser = Parser(prog="ftrun merge", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="run directory of strategy=lora")
    add("--output", type=Path, metavar="DIR", help="new directory; default: RUN/merged")
    add(
        "--dtype",
        choices=["fp32", "bf16", "fp16"],
        default="fp32",
        help="saved precision, cast after the check; default: %(default)s",
    )
    add(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="largest allowed difference of a logit; default: %(default)s",
    )
    options = parser.parse_args(arguments)
    if not options.tolerance >= 0:
        raise ConfigError(f"merge: --tolerance must be at least 0, not {options.tolerance}")

    from ftrun.runs.artifacts import MERGED, low_rank
    from ftrun.runs.protected import refuse_existing
    from ftrun.runs.run import Run

    run = Run.open(options.run)
    low_rank(run, "so there is no weight equal to weight and adapter together; nothing can be merged")
    output = options.output or run.path / MERGED
    refuse_existing(output)

    from ftrun.experiments.lora.merge import merge, of_run
    from ftrun.runs.terminal import say

    merge(of_run(run), output, options.dtype, options.tolerance)
    say(f"saved: {output}")
    say(f"to use it: {prediction(output)}; to train from it: {typed('model.name', output)}")
    return 0
