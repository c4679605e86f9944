"""The end of a run: its best weights on the test split, the saved model, and every file about the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ftrun.errors import UserError
from ftrun.experiments.retention import left
from ftrun.models.save import difference, export
from ftrun.reports.summary import show_result
from ftrun.runs.run import DETAILS, RESULT, Run
from ftrun.settings.seeds import stream
from ftrun.tasks.base import SPLITS, Example, Task
from ftrun.training import checkpoint
from ftrun.training.devices import describe, peak_memory
from ftrun.training.evaluate import evaluate
from ftrun.training.preflight import PROBE

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.settings.schema import Settings
    from ftrun.training.evaluate import Answered
    from ftrun.training.loop import Loop

SEEN = 512  # training rows that are scored at the end


def finish(loop: Loop, settings: Settings, directory: Run, first: list[Tensor]) -> float:
    """Score the best weights on test, save and check the model, and close the run with its result."""
    task, accelerator, model = settings.task, loop.accelerator, loop.model
    place, _ = checkpoint.newest(directory.checkpoints / "best")
    if place is None:
        raise UserError(f"eval_{loop.metric} was never a number, so no weights are the best")
    checkpoint.load_weights(checkpoint.read_tensors(place, "weights"), model)
    loop.set_open(set(range(model.depth + 2)))
    examples = task.examples("test")
    scores, answered = evaluate(model, task, examples, 4 * loop.state.micro_batch, accelerator)
    known = left(loop, first) | on_training(loop)
    if accelerator.is_main_process:
        export(model, directory.model_dir, task.auto_class)
        probe = task.collate(task.examples("validation")[:PROBE])
        found = difference(model, directory.model_dir, task.auto_class, probe)
        write_predictions(directory, settings, answered)
        if details := task.details([answer for _, answer in answered], [example for example, _ in answered]):
            directory.write_json(DETAILS, details)
        task.leave(model.net, model.tokenizer, directory.path, stream(settings.seed, "sample"))
        directory.log({"step": loop.state.step, **{f"test_{name}": value for name, value in scores.items()}})
        directory.write_json("cost.json", cost_of(loop))
        directory.write_json(RESULT, result_of(loop, settings, scores, found) | known)
        show_result(directory)
    accelerator.wait_for_everyone()
    return loop.state.best[loop.metric]


def result_of(loop: Loop, settings: Settings, test: dict[str, float], found: float) -> dict[str, Any]:
    """What the settings decide; a run repeated with them gives the same file."""
    best = dict(loop.state.best)
    trained, total = sum(p.numel() for p in loop.parameters.values()), loop.model.counts()[1]
    return {
        "strategy": settings.strategy_name,
        "task": settings.task.name,
        "model": settings.model.name,
        "seed": settings.seed,
        "metric": f"eval_{loop.metric}",
        "steps": loop.state.step,
        "best_step": best.pop("step"),
        "trained_parameters": trained,
        "total_parameters": total,
        **{f"eval_{name}": value for name, value in best.items()},
        **{f"test_{name}": value for name, value in test.items()},
        "reload_difference": found,
    }


def on_training(loop: Loop) -> dict[str, Any]:
    """How many rows each split has, and the score of the best weights on some rows that they were trained on.

    These are whole rows at equal distances, at most about 512, so that the gap to validation can be seen.
    """
    task, found = loop.task, loop.task.examples("train")
    rows = {split: rows_in(task.examples(split)) for split in SPLITS}
    chosen = set(rows["train"][:: max(1, -(-len(rows["train"]) // SEEN))])
    whole = isinstance(found, list)
    some = [e for e in found if e.row in chosen] if whole else [found[place] for place in sorted(chosen)]
    scores, _ = evaluate(loop.model, task, some, 4 * loop.state.micro_batch, loop.accelerator)
    return {
        "layers": loop.model.depth,
        "rows": {split: len(numbers) for split, numbers in rows.items()},
        **{f"train_{name}": value for name, value in scores.items()},
    }


def rows_in(examples: Sequence[Example]) -> Sequence[int]:
    """The rows that examples are of, or the places in a corpus, which is no list and may be long."""
    return sorted({e.row for e in examples}) if isinstance(examples, list) else range(len(examples))


def cost_of(loop: Loop) -> dict[str, Any]:
    speed = f"{loop.task.unit}_per_second"
    return {
        **loop.state.cost,
        speed: loop.spend()[speed],
        "micro_batch": loop.state.micro_batch,
        "peak_memory_bytes": peak_memory(loop.accelerator),
        "device": describe(loop.accelerator),
    }


def write_predictions(directory: Run, settings: Settings, answered: list[Answered]) -> None:
    """predictions.jsonl: for every test row what was right and what was answered; and the task's reports."""
    task = settings.task
    (directory.path / "predictions.jsonl").write_text(prediction_lines(task, answered), encoding="utf-8")
    reports = task.reports([answer for _, answer in answered], [example for example, _ in answered])
    for name, content in reports.items():
        directory.write_json(name, content)


def prediction_lines(task: Task, answered: list[Answered]) -> str:
    """A line of JSON for each row: its number, what was right and what was answered."""
    lines = []
    for example, answer in answered:
        said = {name: answer[name] for name in task.answer_columns}
        line = {"row": example.row, "label": task.given(example), **said}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)
