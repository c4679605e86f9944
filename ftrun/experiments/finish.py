"""The end of a run: its best weights on the test split, the saved model, and every file about the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.data.tables import write_table
from ftrun.errors import UserError
from ftrun.experiments.retention import measure_after
from ftrun.models.reload import difference
from ftrun.models.save import export
from ftrun.reports.pages.run_page import show_result
from ftrun.runs.run import PREDICTIONS, RESULT, Run
from ftrun.settings.seeds import stream
from ftrun.tasks.dataset import SPLITS, rows_of
from ftrun.tasks.scorer import prediction_lines
from ftrun.training import checkpoint
from ftrun.training.devices import describe, peak_memory
from ftrun.training.preflight import PROBE

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.scorer import Row
    from ftrun.training.loop import Loop

SEEN = 512  # training rows that are scored at the end


def finish(loop: Loop, settings: Settings, directory: Run, first: list[Tensor]) -> float:
    """Score the best weights on test, save and check the model, and close the run with its result."""
    data, accelerator, model = loop.data, loop.accelerator, loop.step.model
    place, _ = checkpoint.newest(directory.checkpoints / "best")
    if place is None:
        raise UserError(f"eval_{loop.metric} was NaN in every evaluation, so there are no best weights")
    checkpoint.load_weights(checkpoint.read_tensors(place, "weights"), model)
    loop.step.set_open(set(range(model.depth + 2)))
    scores, rows = loop.scores(data.dataset("test"))
    known = measure_after(loop, first) | on_training(loop)
    if accelerator.is_main_process:
        auto_class, validation = data.spec.auto_class, data.dataset("validation")
        export(model, directory.model_dir, auto_class)
        probe = validation.collate(validation.examples[:PROBE])
        found = difference(model, directory.model_dir, auto_class, probe)
        write_predictions(directory, data, rows)
        if (generator := data.task.generator(data)) is not None:
            generator.write_sample(model.net, directory.path, stream(settings.seed, "sample"))
        directory.log({"step": loop.state.step, **{f"test_{name}": value for name, value in scores.items()}})
        directory.write_json("cost.json", cost_of(loop))
        directory.write_json(RESULT, result_of(loop, settings, scores, found) | known)
        show_result(directory)
    accelerator.wait_for_everyone()
    return loop.state.best[loop.metric]


def result_of(loop: Loop, settings: Settings, test: dict[str, float], found: float) -> dict[str, Any]:
    """What the settings decide; a run repeated with them gives the same file."""
    best = dict(loop.state.best)
    trained, total = sum(p.numel() for p in loop.step.parameters.values()), loop.step.model.counts()[1]
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
    train = loop.data.dataset("train")
    rows = {split: rows_of(loop.data.dataset(split)) for split in SPLITS}
    chosen = set(rows["train"][:: max(1, -(-len(rows["train"]) // SEEN))])
    whole = isinstance(train.examples, list)
    some = [e for e in train.examples if e.row in chosen] if whole else [train[at] for at in sorted(chosen)]
    scores, _ = loop.scores(train.of(some))
    return {
        "layers": loop.step.model.depth,
        "rows": {split: len(numbers) for split, numbers in rows.items()},
        **{f"train_{name}": value for name, value in scores.items()},
    }


def cost_of(loop: Loop) -> dict[str, Any]:
    speed = f"{loop.data.spec.inputs.unit}_per_second"
    return {
        **loop.state.cost,
        speed: loop.spend()[speed],
        "micro_batch": loop.state.micro_batch,
        "checkpoint_layers": loop.step.backward.recompute,
        "peak_memory_bytes": peak_memory(loop.accelerator),
        "device": describe(loop.accelerator),
    }


def write_predictions(directory: Run, data: TaskData, rows: list[Row]) -> None:
    """predictions.jsonl, and what stands behind the scores of the test split."""
    write_table(directory.path / PREDICTIONS, prediction_lines(rows, data.slices(rows)))
    for name, content in data.scorer.tables(rows).items():
        if content:
            directory.write_json(name, content)
