"""Tasks one after the other, each a run whose source is the run before, and what is left of them all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.experiments import single
from ftrun.experiments.ending import reason_kept
from ftrun.experiments.surroundings import surroundings
from ftrun.reports.sequence import show
from ftrun.runs import clock
from ftrun.runs.run import ENVIRONMENT, RESULT, Run
from ftrun.runs.terminal import leads
from ftrun.settings.read import NOTHING_BEFORE, derived, named_apart, read, without_hold
from ftrun.settings.schema import Settings
from ftrun.tasks.data import TaskData
from ftrun.tasks.joint import labels_in, shared_labels
from ftrun.tasks.metrics import continual

if TYPE_CHECKING:
    from collections.abc import Sequence

Result = dict[str, Any]
SHOWN = ("strategy", "sequence", "scenario", "metric", "matrix", "untrained", "average")


@clock.account()
def run(settings: Settings, path: Path) -> float:
    """Each task of a sequence, in directories below; returns the average score."""
    stages = plan(settings)
    beginning = {ENVIRONMENT: surroundings(path, settings.device)}
    directory = Run.create(path, settings.raw, beginning)
    return through(settings, stages, directory)


@clock.account()
def resume(directory: Run) -> float:
    """Continue a sequence; what is finished of it is not done again."""
    if not directory.finished:
        directory.refuse_edited()
        directory.hold()
    settings = read(directory.settings)
    return through(settings, plan(settings), directory)


def through(settings: Settings, stages: list[dict[str, Any]], directory: Run) -> float:
    """Every stage that is not finished, then the result."""
    with reason_kept(directory, "to continue the sequence"):
        if not directory.finished:
            finished = [stage(settings, directory, stages, number) for number in range(len(stages))]
            if leads():
                directory.write_json(RESULT, result_of(settings, stages, finished))
    result = directory.result(*SHOWN)
    if leads():
        show(directory, result)
    return float(result["average"])


def plan(settings: Settings) -> list[dict[str, Any]]:
    """The settings of every task, with the labels that a shared head needs. Raises ConfigError, DataError."""
    if settings.source is not None and settings.source.kind != "pretraining":
        raise ConfigError("sequence= starts with its own first task and takes no source=RUN or source=TASK")
    if not settings.strategy.foldable or settings.strategy.starts_random:
        why = "forgets by design" if settings.strategy.starts_random else "cannot be folded into the weights"
        why += "" if settings.strategy.starts_random else " for the next task"
        raise ConfigError(f"sequence= cannot be combined with strategy={settings.strategy_name}: it {why}")
    nodes = named_apart(settings.sequence or [])
    tasks = [read(settings.raw | {"task": node, "sequence": None}).task for node in nodes]
    if settings.train.metric is None and len({TaskData(task).metric for task in tasks}) > 1:
        scored = ", ".join(
            f"{TaskData(task).metric} of {node['name']}" for node, task in zip(nodes, tasks, strict=True)
        )
        raise ConfigError(f"sequence= needs one metric for all tasks, but the metrics are {scored}")
    if settings.scenario == "task":
        return nodes
    specs = [TaskData.read(task, settings.seed).spec for task in tasks]
    names = [str(node["name"]) for node in nodes]
    union = shared_labels(names, [labels_in(spec) for spec in specs], settings.scenario)
    return nodes if union is None else [node | {"labels": union} for node in nodes]


def stage(settings: Settings, directory: Run, stages: list[dict[str, Any]], number: int) -> Run:
    """The finished run of one task, begun or resumed where that is needed."""
    raw = settings.raw | {"sequence": None, "task": stages[number]}
    if number == 0:
        raw = without_hold(raw)
    else:
        raw["source"] = {"kind": "run", "run": str(place(directory, stages, number - 1).resolve())}
    note = f"\ntask {number + 1} of {len(stages)}: {stages[number]['name']}"
    return single.made(raw, place(directory, stages, number), note)


def place(directory: Run, stages: list[dict[str, Any]], number: int) -> Path:
    return directory.path / f"{number + 1}-{stages[number]['name']}"


def result_of(settings: Settings, stages: list[dict[str, Any]], runs: list[Run]) -> Result:
    """The matrix of scores and what follows from it; every entry is of a test split."""
    results = [run.result("metric", "trained_parameters", "total_parameters") for run in runs]
    metric = results[0]["metric"].removeprefix("eval_")
    matrix: list[list[float | None]] = []
    for number, result in enumerate(results):
        past = [each["after"][metric] for each in result.get("sources", []) if each["name"] != "pretraining"]
        later = zero_shot(runs[number], stages[number + 1 :], metric) if settings.scenario != "task" else []
        known = [*past, result[f"test_{metric}"], *later]
        matrix.append([*known, *[None] * (len(stages) - len(known))])
    shared = settings.scenario != "task"
    untrained = before_training(settings, stages, metric) if shared else [None] * len(stages)
    sign = TaskData(settings.task).scorer.metrics[metric].sign  # of a loss, less is better
    gains = [signed(row, sign) for row in matrix]
    mean = continual.average(matrix)
    return {
        "strategy": settings.strategy_name,
        "sequence": [node["name"] for node in stages],
        "scenario": settings.scenario,
        "model": settings.model.name,
        "seed": settings.seed,
        "metric": f"eval_{metric}",
        "matrix": matrix,
        "untrained": untrained,
        "average": mean,
        f"test_{metric}": mean,
        "forgetting": continual.forgetting(gains),
        "backward_transfer": continual.backward_transfer(gains),
        "forward_transfer": continual.forward_transfer(gains, signed(untrained, sign)),
        "trained_parameters": results[-1]["trained_parameters"],
        "total_parameters": results[-1]["total_parameters"],
    }


def signed(values: Sequence[float | None], sign: int) -> list[float | None]:
    return [None if value is None else sign * value for value in values]


def zero_shot(run: Run, later: list[dict[str, Any]], metric: str) -> list[float]:
    """The scores of tasks that the network has not seen yet, under the head that all share."""
    from ftrun.experiments.inference import FinishedRun

    if not later:
        return []
    finished = FinishedRun(run, calibrated=False)
    scores = []
    for node in later:
        task = derived(finished.settings, task=node, **NOTHING_BEFORE).task
        data = TaskData.read(task, finished.settings.seed)
        data.processor = finished.processor
        scores.append(finished.evaluate(data)[0][metric])
    return scores


def before_training(settings: Settings, stages: list[dict[str, Any]], metric: str) -> list[float | None]:
    """What the network scores before the first task."""
    from ftrun.models.load import load
    from ftrun.settings.seeds import stream
    from ftrun.training.evaluate import evaluate

    accelerator, size = single.accelerator_of(settings), 4 * settings.train.batch_size
    scores: list[float | None] = []
    model = None
    for node in stages:
        task = read(without_hold(settings.raw | {"task": node, "sequence": None})).task
        data = TaskData.read(task, settings.seed)
        if model is None:
            freezing = settings.strategy.prepare if settings.half else None
            model = load(settings.model, data.spec, stream(settings.seed, "init"), freezing)
            model.to(accelerator.device)
        data.encode(model.tokenizer, "test")
        found, _ = evaluate(model, data, data.dataset("test"), size, accelerator)
        scores.append(found[metric])
    return scores
