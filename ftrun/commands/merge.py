"""Fold a finished run's LoRA into its network and prove it: a checkpoint that plain transformers loads."""

from __future__ import annotations

from pathlib import Path

from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError


def main(arguments: list[str]) -> int:
    """Entry point; `arguments` is what follows the command's name."""
    parser = Parser(prog="ftrun merge", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("run", type=Path, help="run directory, of strategy=lora")
    add("--output", type=Path, metavar="DIR", help="a new directory; default RUN/merged")
    add("--dtype", choices=["fp32", "bf16", "fp16"], default="fp32", help="cast after folding and proof")
    add("--tolerance", type=float, default=1e-4, help="largest difference of a logit; default 1e-4")
    options = parser.parse_args(arguments)
    if not options.tolerance >= 0:
        raise ConfigError(f"merge: --tolerance is at least 0, not {options.tolerance}")

    from ftrun.runs.artifacts import low_rank, refuse_existing
    from ftrun.runs.run import Run

    run = Run.open(options.run)
    low_rank(run, "so no weight is the same as weight and adapter together; nothing can be merged")
    output = options.output or run.path / "merged"
    refuse_existing(output)

    from ftrun.experiments.lora.merge import merge, of_run
    from ftrun.runs.terminal import say

    merge(of_run(run), output, options.dtype, options.tolerance)
    say(f"saved: {output}")
    say(
        f"to ask it: ftrun predict {output} --input FILE --output FILE; to start from it: model.name={output}"
    )
    return 0
