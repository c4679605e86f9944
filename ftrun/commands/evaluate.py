"""Score a finished run's model again, on its test split or on another file."""

from __future__ import annotations

from pathlib import Path

from ftrun.commands._parser import Parser


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    parser = Parser(prog="ftrun evaluate", description=__doc__)
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="run directory, or a directory written by merge or compose"
    )
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="file or directory as in task.test=, with the run's columns; default: the run's test split",
    )
    options = parser.parse_args(arguments)

    from ftrun.data.sources import look
    from ftrun.runs.find import open_trained

    run = open_trained(options.run)
    task = run.settings["task"]
    look(task if options.input is None else {"kind": task["kind"], "test": options.input})

    from ftrun.runs.collector import importing

    with importing("torch"):
        from ftrun.experiments.inference import evaluation
    from ftrun.reports.pages.run_page import show_evaluation
    from ftrun.runs.terminal import say
    from ftrun.tasks.scorer import prediction_lines

    found = evaluation(run, options.input)
    lines, own = prediction_lines(found.rows), options.input is None
    show_evaluation(run, found.metric, found.scores, lines, found.details, own)
    before = {} if options.input else run.read_json("result.json") or {}
    width = max(22, *(len(name) + 1 for name in found.scores))
    for name, value in found.scores.items():
        then = before.get(f"test_{name}")
        say(f"test_{name:<{width}}{value:.6f}" + (f"   in the run {then:.6f}" if then is not None else ""))
    return 0
