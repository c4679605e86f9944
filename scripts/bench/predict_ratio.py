"""CPU seconds of `ftrun predict`, from reading the file to writing the answers, against bare forward passes.

    python scripts/bench/predict_ratio.py RUN --input FILE

Both sides use the run's model, loaded once, in this process and take turns. The bare side has its rows
tokenised, sorted by length and padded in equal batches before its clock starts, and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from ftrun.data.batching import sorted_batches
from ftrun.data.tables import write_table
from ftrun.experiments.inference import FinishedRun
from ftrun.runs.run import Run
from ftrun.tasks.objective import outputs_of
from ftrun.tasks.scorer import as_columns
from ftrun.training.evaluate import SMALLEST

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--input", required=True, help="a file with the run's text column")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    finished = FinishedRun(Run.open(options.run))
    model, size = finished.model, 4 * finished.settings.train.batch_size
    data = finished.data(options.input, answered=False)
    dataset = data.dataset("test")
    order = sorted_batches([example.size for example in dataset.examples], max(size, SMALLEST))
    batches = [dataset.collate([dataset[place] for place in places]) for places in order]

    @torch.no_grad()
    def bare() -> None:
        model.eval()
        for batch in batches:
            outputs_of(model, data.objective, batch)

    def whole() -> None:
        asked = finished.data(options.input, answered=False)
        rows = asked.rows.inputs
        answered = {row.row: row.answer for row in finished.predict(asked)}
        empty: dict[str, Any] = dict.fromkeys(asked.scorer.columns)
        with tempfile.TemporaryDirectory() as place:
            answers_file = Path(place) / "answers.csv"
            write_table(
                answers_file, [{**row, **as_columns(answered.get(i, empty))} for i, row in enumerate(rows)]
            )

    for side in (bare, whole):
        side()  # warm
    seconds: dict[str, list[float]] = {"bare": [], "predict": []}
    for number in range(options.repeats):
        pair: list[tuple[str, Callable[[], None]]] = [("bare", bare), ("predict", whole)]
        for name, side in reversed(pair) if number % 2 else pair:
            start = time.process_time()
            side()
            seconds[name].append(time.process_time() - start)
    ratios = [ours / theirs for ours, theirs in zip(seconds["predict"], seconds["bare"], strict=True)]
    found = {"rows": len(dataset), "threads": torch.get_num_threads(), **seconds, "ratio": median(ratios)}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
