"""Answer rows over HTTP with a finished run's model, as `ftrun predict` does: POST /predict.

curl http://127.0.0.1:8000/predict --json '{"rows": [{"text": "…"}]}'
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)

    from ftrun.experiments.serving.server import LOOPBACK, address, listening, refuse_missing, serve
    from ftrun.runs.collector import importing
    from ftrun.runs.find import open_trained
    from ftrun.runs.terminal import say

    refuse_missing()
    run = open_trained(options.run)
    with importing("torch"):
        from ftrun.experiments.inference import FinishedRun
        from ftrun.experiments.serving.answering import Answering
        from ftrun.experiments.serving.app import ROUTES, Limits, Service

    answering = Answering(FinishedRun(run))
    about = {
        "run": options.run.resolve().name,
        "task": answering.task["name"],
        "columns": [*answering.columns],
    }
    limits = Limits(options.megabytes * 1_000_000, options.rows, options.batch, options.waiting)
    with listening(options.host, options.port) as place:
        if options.host not in LOOPBACK:
            say(f"warning: whoever reaches {options.host} can ask; there are no passwords and no TLS")
        where = f"{options.run} answers at {address(place)}: {', '.join(ROUTES)}"
        serve(Service(answering, limits, about).application(), place, lambda: say(where))
    say("stopped")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Raises ConfigError for a usage error."""
    parser = Parser(prog="ftrun serve", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="run directory, or a directory written by merge or compose")
    add("--host", default="127.0.0.1", help="address to listen at; default: %(default)s, this machine alone")
    add("--port", type=int, default=8000, help="0 for any that is free; default: %(default)s")
    add("--rows", type=int, default=1000, help="of a request at most; default: %(default)s")
    add("--megabytes", type=int, default=16, help="of a request's body at most; default: %(default)s")
    add("--batch", type=int, default=256,
        help="rows of waiting requests that are answered together; default: %(default)s")  # fmt: skip
    add("--waiting", type=int, default=10_000, help="rows that may wait; default: %(default)s")
    options = parser.parse_args(arguments)
    for name in ("rows", "megabytes", "batch", "waiting"):
        if getattr(options, name) < 1:
            raise ConfigError(f"serve: --{name} must be at least 1, not {getattr(options, name)}")
    return options
