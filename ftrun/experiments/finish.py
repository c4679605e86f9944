"""The end of a run: its best weights on the test split, the saved model, and every file about the result."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from ftrun.data.tables import write_table
from ftrun.errors import UserError
from ftrun.experiments.frozen import add_features
from ftrun.experiments.retention import measure_after
from ftrun.models.reload import Shown, shown
from ftrun.models.save import export
from ftrun.reports.pages.model_card import write_run_card
from ftrun.reports.pages.run_page import show_result
from ftrun.runs import clock
from ftrun.runs.manifest import seal
from ftrun.runs.run import PREDICTIONS, RESULT, Run
from ftrun.runs.terminal import say
from ftrun.settings.seeds import stream
from ftrun.tasks.dataset import SPLITS, rows_of
from ftrun.tasks.scorer import prediction_lines
from ftrun.training import checkpoint
from ftrun.training.devices import describe
from ftrun.training.pausing import VALIDATION_ALONE
from ftrun.training.preflight import LARGEST_DIFFERENCE, PROBE, in_one_piece

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.scorer import Row
    from ftrun.training.loop import Loop
    from ftrun.training.memory import MemoryMeter

SEEN = 512  # training rows that are scored at the end


@clock.phase("export")
def finish(loop: Loop, settings: Settings, directory: Run, meter: MemoryMeter, first: list[Tensor]) -> float:
    """Score the best weights on test, save and check the model, and close the run with its result."""
    data, accelerator, model = loop.data, loop.accelerator, loop.step.model
    if not loop.state.best:
        raise UserError(f"eval_{loop.metric} was NaN in every evaluation, so there are no best weights")
    if VALIDATION_ALONE.get():
        return close(loop, settings, directory, meter)
    load_best(loop, directory)
    loop.step.set_open(set(range(model.depth + 2)))
    scores, rows = loop.scores(data.dataset("test"))
    known = measure_after(loop, first) | on_training(loop)
    loop.step.kept.flush()
    with in_one_piece(loop.step) as network:
        if accelerator.is_main_process:
            here = write_network(network, data, directory, settings)
    if accelerator.is_main_process:
        found = here.differ(directory.model_dir, data.spec.auto_class, model)
        write_predictions(directory, data, rows)
        directory.log({"step": loop.state.step, **{f"test_{name}": value for name, value in scores.items()}})
        directory.write_json("cost.json", cost_of(loop, meter))
        if loop.step.sharded is None:  # it takes the whole network on one device
            with meter.aside():
                add_features(settings, data, model, directory, accelerator)
        own = {f"test_{name}": value for name, value in scores.items()} | {"reload_difference": found}
        result = result_of(loop, settings) | own | known
        write_run_card(directory, settings, result)
        seal(directory.model_dir)
        directory.write_json(RESULT, result)
        with clock.phase("report"):
            show_result(directory)
        if not found <= LARGEST_DIFFERENCE:
            say(f"warning: the saved model differs from the trained one: a logit by {found:.2g}")
        loop.tracker.finish(loop.state.step)
    accelerator.wait_for_everyone()
    return loop.state.best[loop.metric]


def write_network(model: Model, data: TaskData, directory: Run, settings: Settings) -> Shown:
    """The saved model and a sample of what it writes; returns what it makes of some rows of validation."""
    auto_class, validation = data.spec.auto_class, data.dataset("validation")
    directory.keep()
    shutil.rmtree(directory.model_dir, ignore_errors=True)  # half of one, of a process that was killed
    export(model, directory.model_dir, auto_class)
    if (generator := data.task.generator(data)) is not None:
        generator.write_sample(model.net, directory.path, stream(settings.seed, "sample"))
    return shown(model, validation.collate(validation.examples[:PROBE]))


def load_best(loop: Loop, directory: Run) -> None:
    """Give the network the weights that were best on validation; UserError where they are not there."""
    best, model = int(loop.state.best["step"]), loop.step.model
    place = checkpoint.best_weights(directory.checkpoints / "best", directory.key, best)
    checkpoint.read_weights(place, model, loop.step.parameters)


def close(loop: Loop, settings: Settings, directory: Run, meter: MemoryMeter) -> float:
    """The result of a run whose validation score is all that is asked of it."""
    if loop.accelerator.is_main_process:
        directory.write_json("cost.json", cost_of(loop, meter))
        directory.write_json(RESULT, result_of(loop, settings) | {"rows": counts_of(loop)})
        loop.tracker.finish(loop.state.step)
    loop.accelerator.wait_for_everyone()
    return loop.state.best[loop.metric]


def result_of(loop: Loop, settings: Settings) -> dict[str, Any]:
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
        **loop.choices(),
        "trained_parameters": trained,
        "total_parameters": total,
        **{f"eval_{name}": value for name, value in best.items()},
    }


def on_training(loop: Loop) -> dict[str, Any]:
    """How many rows each split has, and the score of the best weights on some rows that they were trained on.

    These are whole rows at equal distances, at most about 512, so that the gap to validation can be seen.
    """
    train = loop.data.dataset("train")
    rows = rows_of(train)
    chosen = set(rows[:: max(1, -(-len(rows) // SEEN))])
    whole = isinstance(train.examples, list)
    some = [e for e in train.examples if e.row in chosen] if whole else [train[at] for at in sorted(chosen)]
    scores, _ = loop.scores(train.of(some))
    return {
        "layers": loop.step.model.depth,
        "rows": counts_of(loop),
        **{f"train_{name}": value for name, value in scores.items()},
    }


def counts_of(loop: Loop) -> dict[str, int]:
    """How many rows each split has."""
    return {split: len(rows_of(loop.data.dataset(split))) for split in SPLITS}


def cost_of(loop: Loop, meter: MemoryMeter) -> dict[str, Any]:
    graphs = loop.step.backward.graphs
    speed = f"{loop.data.spec.inputs.unit}_per_second"
    spent = loop.spend()  # adds the closing scores to the cost
    return {
        **loop.state.cost,
        speed: spent[speed],
        "micro_batch": loop.state.micro_batch,
        "checkpoint_layers": loop.step.backward.recompute,
        **({} if graphs is None else {"graphs": graphs.counts}),
        "memory_bytes": meter.bytes,
        "device": describe(loop.accelerator),
    }


def write_predictions(directory: Run, data: TaskData, rows: list[Row]) -> None:
    """predictions.jsonl, and what stands behind the scores of the test split."""
    write_table(directory.path / PREDICTIONS, prediction_lines(rows, data.slices(rows)))
    for name, content in data.scorer.tables(rows).items():
        if content:
            directory.write_json(name, content)
