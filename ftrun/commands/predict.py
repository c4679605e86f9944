"""Answer the rows of a file with a finished run's model."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Entry point; `arguments` is what follows the command's name."""
    parser = argparse.ArgumentParser(prog="ftrun predict", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument(
        "--input", required=True, help="a file or pattern, as task.train= takes it, with the run's columns"
    )
    parser.add_argument(
        "--output", required=True, type=Path, help="csv, tsv or jsonl; the rows, answered, in order"
    )
    options = parser.parse_args(arguments)

    from ftrun.rundir import Run
    from ftrun.tables import check_writable, write_table

    run = Run.open(options.run)
    check_writable(options.output)

    from ftrun.data import read_rows
    from ftrun.evaluation import predict
    from ftrun.inference import open_model
    from ftrun.terminal import say

    settings, model, tokenizer, accelerator = open_model(run)
    rows = read_rows(options.input)
    examples = settings.task.questions(tokenizer, rows, options.input)
    answers = predict(model, settings.task, examples, 4 * settings.train.batch_size, accelerator)
    empty = dict.fromkeys(settings.task.answer_columns)
    answered = {example.row: answer for example, answer in zip(examples, answers, strict=True)}
    write_table(options.output, [{**row, **answered.get(i, empty)} for i, row in enumerate(rows)])
    say(f"{len(answered)} of {len(rows)} rows answered: {options.output}")
    return 0
