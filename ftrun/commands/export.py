"""Write a finished run's model for other programs: ONNX, torch.export, plain transformers, llama.cpp."""

from __future__ import annotations

from pathlib import Path

from ftrun.commands._parser import Parser, choices
from ftrun.errors import ConfigError
from ftrun.runs.artifacts import MERGED, TOLERANCE, refuse_unfinished

KINDS = ["onnx", "torch-export", "merged", "gguf-ready"]
GONE = (
    "export: --to torchscript: PyTorch has deprecated torch.jit, which keeps of every Python branch the one"
    " it was traced with; possible: --to torch-export, its successor, or --to onnx"
)


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.to == "torchscript":
        raise ConfigError(GONE)
    if options.to not in KINDS:
        raise ConfigError(f"export: --to {options.to}: {choices(options.to, KINDS)}")
    if not options.tolerance >= 0:
        raise ConfigError(f"export: --tolerance must be at least 0, not {options.tolerance}")

    from ftrun.runs.protected import refuse_existing
    from ftrun.runs.run import Run
    from ftrun.runs.terminal import say

    run = Run.open(options.run)
    refuse_unfinished(run)
    output = options.output or run.path / (MERGED if options.to == "merged" else options.to)
    refuse_existing(output)
    if options.to in ("merged", "gguf-ready"):
        from ftrun.experiments.exporting.whole import whole

        for line in whole(run, options.to, output, options.tolerance):
            say(line)
        return 0
    if options.to == "onnx":
        from ftrun.experiments.exporting.formats import refuse_missing

        refuse_missing()
    from ftrun.experiments.exporting.export import export

    export(run, options.to, output, options.tolerance)
    say(f"saved: {output}; {output / 'README.md'} has the lines that use it")
    return 0


def parser() -> Parser:
    """The command's options."""
    found = Parser(prog="ftrun export", description=__doc__, allow_abbrev=False)
    found.add_argument("run", metavar="RUN", type=Path, help="directory of a finished run")
    found.add_argument("--to", required=True, metavar="KIND", help=", ".join(KINDS))
    found.add_argument("--output", type=Path, metavar="DIR", help="new directory; default: RUN/KIND")
    found.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="largest allowed difference of a logit; default: %(default)s",
    )
    return found
