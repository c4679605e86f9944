"""Answer the rows of a file with a finished run's model."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Entry point; `arguments` is what follows the command's name."""
    parser = argparse.ArgumentParser(prog="ftrun predict", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory, or what merge or compose has made")
    parser.add_argument(
        "--input",
        required=True,
        help="what task.train= takes, with the run's columns but without answers",
    )
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        help="csv, tsv, jsonl or what the task writes; the rows in order",
    )
    options = parser.parse_args(arguments)

    from ftrun.data.labels import listed
    from ftrun.data.tables import check_writable
    from ftrun.runs.run import open_trained
    from ftrun.settings.schema import read

    run = open_trained(options.run)
    check_writable(options.output, read(run.settings).task.writes)

    from ftrun.experiments.inference import open_model
    from ftrun.runs.terminal import say
    from ftrun.training.evaluate import predict

    settings, model, tokenizer, accelerator = open_model(run)
    task = settings.task
    rows = task.input_rows(options.input)
    if taken := [name for name in task.answer_columns if any(name in row for row in rows)]:
        say(f"{options.input} has the column {listed(taken)}; in {options.output} the answers stand there")
    examples = task.questions(tokenizer, rows, options.input)
    answered = predict(model, task, examples, 4 * settings.train.batch_size, accelerator)
    answers = {example.row: answer for example, answer in answered}
    answers |= task.completed(model.net, tokenizer, rows, settings.seed)
    empty = dict.fromkeys(task.answer_columns)
    own = [empty | {name: answers.get(row, empty)[name] for name in empty} for row in range(len(rows))]
    task.write(options.output, [row | said for row, said in zip(rows, own, strict=True)])
    say(f"{len(answers)} of {len(rows)} rows answered: {options.output}")
    return 0
