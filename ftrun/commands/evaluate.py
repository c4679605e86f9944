"""Score a finished run's model again, on its test split or on another file."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Entry point; `arguments` is what follows the command's name."""
    parser = argparse.ArgumentParser(prog="ftrun evaluate", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory, or what merge or compose has made")
    parser.add_argument(
        "--input",
        help="as task.test= takes it, with the run's columns, or images; else the run's test split",
    )
    options = parser.parse_args(arguments)

    from ftrun.runs.run import open_trained

    run = open_trained(options.run)

    from ftrun.experiments.inference import open_model
    from ftrun.runs.terminal import say
    from ftrun.training.evaluate import evaluate

    settings, model, tokenizer, accelerator = open_model(run)
    task = settings.task
    if options.input:
        for note in task.read_test(options.input):
            say(note)
    else:
        task.read(settings.seed)
    say(task.encode(tokenizer, "test"))
    scores, _ = evaluate(model, task, task.examples("test"), 4 * settings.train.batch_size, accelerator)
    before = {} if options.input else run.read_json("result.json") or {}
    for name, value in scores.items():
        then = before.get(f"test_{name}")
        say(f"test_{name:<22}{value:.6f}" + (f"   in the run {then:.6f}" if then is not None else ""))
    return 0
