"""Tasks one after the other, each a run whose source is the run before, and what is left of them all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun import CONF
from ftrun.data.labels import listed, natural
from ftrun.errors import ConfigError
from ftrun.experiments import single as experiment
from ftrun.reports.summary import console, score
from ftrun.runs.run import RESULT, Run, is_run
from ftrun.runs.terminal import leads, say
from ftrun.settings.schema import FIXED, Settings, read
from ftrun.tasks.metrics import continual as forgetting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

Result = dict[str, Any]


def run(settings: Settings, path: Path) -> float:
    """One experiment, a composition, or each task of a sequence, in directories below; returns the score."""
    if settings.compose is not None:
        from ftrun.experiments.lora import domain

        return domain.run(settings, path)
    if settings.sequence is None:
        return experiment.run(settings, path)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "sequence= does not go with several processes; start its tasks one by one, source=RUN"
        )
    stages = plan(settings)
    directory = Run.create(path, settings.raw)
    return through(settings, stages, directory)


def resume(path: Path) -> float:
    """Go on with a run or a sequence; what is finished of it is not done again."""
    directory = Run.open(path)
    if (directory.config.get("compose") or {"name": "none"})["name"] != "none":
        from ftrun.experiments.lora import domain

        return domain.resume(directory)
    if not directory.config.get("sequence"):
        return experiment.resume(path)
    settings = read(directory.settings)
    if not directory.finished:
        directory.hold()
    return through(settings, plan(settings), directory)


def through(settings: Settings, stages: list[dict[str, Any]], directory: Run) -> float:
    """Every stage that is not finished, then the result."""
    with experiment.reason_kept(directory, "to go on with the sequence"):
        if not directory.finished:
            finished = [stage(settings, directory, stages, number) for number in range(len(stages))]
            if leads():
                directory.write_json(RESULT, result_of(settings, stages, finished))
    result = directory.read_json(RESULT)
    if leads():
        show(directory, result)
    return float(result["average"])


def plan(settings: Settings) -> list[dict[str, Any]]:
    """The settings of every task, with the labels that a shared head needs. Raises ConfigError, DataError."""
    if settings.source is not None and settings.source.kind != "pretraining":
        raise ConfigError(
            "sequence= begins with its own first task; it takes no source=RUN and no source=TASK"
        )
    if settings.strategy_name in ("adapter", "scratch"):
        why = {
            "adapter": "cannot be folded into the weights for the next task",
            "scratch": "forgets by design",
        }
        raise ConfigError(
            f"sequence= does not go with strategy={settings.strategy_name}: it {why[settings.strategy_name]}"
        )
    nodes = [dict(node) for node in settings.sequence or []]
    names = [node.get("name") for node in nodes]
    for number, node in enumerate(nodes):
        if names.count(node.get("name")) > 1:
            node["name"] = f"{node.get('name')}{number + 1}"
    tasks = [read(settings.raw | {"task": node, "sequence": None}).task for node in nodes]
    if settings.train.metric is None and len({task.default_metric for task in tasks}) > 1:
        said = ", ".join(
            f"{node['name']} by {t.default_metric}" for node, t in zip(nodes, tasks, strict=True)
        )
        raise ConfigError(f"sequence= needs one metric for all tasks, but {said} are scored")
    if settings.scenario == "task":
        return nodes
    for task in tasks:
        task.read(settings.seed)
    labels = [list(task.head().get("id2label", {}).values()) for task in tasks]
    if settings.scenario == "domain":
        for node, found in zip(nodes[1:], labels[1:], strict=True):
            if found != labels[0]:
                raise ConfigError(
                    f"scenario=domain: {nodes[0]['name']} has the labels {listed(labels[0])},"
                    f" {node['name']} has {listed(found)}; one head needs the same labels,"
                    " possible: scenario=class or scenario=task"
                )
        return nodes
    union = sorted({name for found in labels for name in found}, key=natural)
    return [node | {"labels": union} for node in nodes]


def stage(settings: Settings, directory: Run, stages: list[dict[str, Any]], number: int) -> Run:
    """The finished run of one task, begun or resumed where that is needed."""
    path = place(directory, stages, number)
    if not is_run(path):
        say(f"\ntask {number + 1} of {len(stages)}: {stages[number]['name']}")
        raw = settings.raw | {"sequence": None, "task": stages[number]}
        if number == 0:
            raw = unheld(raw)
        else:
            raw["source"] = {"kind": "run", "run": str(place(directory, stages, number - 1).resolve())}
        experiment.run(read(raw), path)
    elif not Run.open(path).finished:
        experiment.resume(path)
    return Run.open(path)


def place(directory: Run, stages: list[dict[str, Any]], number: int) -> Path:
    return directory.path / f"{number + 1}-{stages[number]['name']}"


def unheld(raw: dict[str, Any]) -> dict[str, Any]:
    """The same way to train with nothing to hold yet; ewc, l2sp and replay then train every weight."""
    raw = raw | {"protect": {"name": "none"}, "source": {"kind": "none"}}
    if (CONF / f"protect/{raw['strategy']}.yaml").is_file():
        return {name: raw[name] for name in FIXED} | {"strategy": "full"}
    return raw


def result_of(settings: Settings, stages: list[dict[str, Any]], runs: list[Run]) -> Result:
    """The matrix of scores and what follows from it; every entry is of a test split."""
    results = [run.read_json(RESULT) for run in runs]
    metric = results[0]["metric"].removeprefix("eval_")
    matrix: list[list[float | None]] = []
    for number, result in enumerate(results):
        past = [each["after"][metric] for each in result.get("sources", []) if each["name"] != "pretraining"]
        later = zero_shot(runs[number], stages[number + 1 :], metric) if settings.scenario != "task" else []
        known = [*past, result[f"test_{metric}"], *later]
        matrix.append([*known, *[None] * (len(stages) - len(known))])
    untrained = start(settings, stages, metric) if settings.scenario != "task" else [None] * len(stages)
    sign = 1 if settings.task.metrics[metric] == "max" else -1  # of a loss, less is better
    gains = [signed(row, sign) for row in matrix]
    mean = forgetting.average(matrix)
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
        "forgetting": forgetting.forgetting(gains),
        "backward_transfer": forgetting.backward_transfer(gains),
        "forward_transfer": forgetting.forward_transfer(gains, signed(untrained, sign)),
        "trained_parameters": results[-1]["trained_parameters"],
        "total_parameters": results[-1]["total_parameters"],
    }


def signed(values: Sequence[float | None], sign: int) -> list[float | None]:
    return [None if value is None else sign * value for value in values]


def zero_shot(run: Run, later: list[dict[str, Any]], metric: str) -> list[float]:
    """The scores of tasks that the network has not seen yet, under the head that all share."""
    from ftrun.experiments.inference import open_model
    from ftrun.training.evaluate import evaluate

    if not later:
        return []
    settings, model, tokenizer, accelerator = open_model(run)
    scores = []
    for node in later:
        task = read(
            settings.raw | {"task": node, "source": {"kind": "none"}, "protect": {"name": "none"}}
        ).task
        task.read(settings.seed)
        task.encode(tokenizer, "test")
        found, _ = evaluate(model, task, task.examples("test"), 4 * settings.train.batch_size, accelerator)
        scores.append(found[metric])
    return scores


def start(settings: Settings, stages: list[dict[str, Any]], metric: str) -> list[float | None]:
    """What the network scores before the first task."""
    from ftrun.models.load import load
    from ftrun.settings.seeds import stream
    from ftrun.training.devices import open_accelerator
    from ftrun.training.evaluate import evaluate

    accelerator = open_accelerator(settings.device, settings.train.precision, settings.train.deterministic)
    scores: list[float | None] = []
    model = None
    for node in stages:
        task = read(unheld(settings.raw | {"task": node, "sequence": None})).task
        task.read(settings.seed)
        if model is None:
            model = load(settings.model, task, stream(settings.seed, "init")).to(accelerator.device)
        task.encode(model.tokenizer, "test")
        found, _ = evaluate(model, task, task.examples("test"), 4 * settings.train.batch_size, accelerator)
        scores.append(found[metric])
    return scores


def show(directory: Run, result: Result) -> None:
    """The matrix as a table and a picture, and the four numbers."""
    screen = console()
    metric = result["metric"].removeprefix("eval_")
    title = f"{result['strategy']} · {' → '.join(result['sequence'])} · scenario {result['scenario']}"
    screen.print(f"\n{title} · {metric}\n", style="bold", soft_wrap=True)
    screen.print(table_of(result, metric))
    for name in ("average", "forgetting", "backward_transfer", "forward_transfer"):
        value = result[name]
        text = "not defined: the tasks have heads of their own" if value is None else score(value, metric)
        screen.print(f"  {name.replace('_', ' '):<20}{text}")
    picture(result, directory.path / "matrix.png", metric)
    screen.print(
        f"\n  run       {directory.path}\n  picture   {directory.path / 'matrix.png'}\n", soft_wrap=True
    )


def table_of(result: Result, metric: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    table.add_column("after")
    for name in result["sequence"]:
        table.add_column(name, justify="right")
    rows = [("no task", result["untrained"]), *zip(result["sequence"], result["matrix"], strict=True)]
    for name, values in rows:
        if any(value is not None for value in values):
            table.add_row(name, *(score(value, metric) or "–" for value in values))
    return table


def picture(result: Result, file: Path, metric: str) -> None:
    """The matrix as a heat map: a row for each task trained, a column for each task scored."""
    from matplotlib.figure import Figure

    names, matrix = result["sequence"], result["matrix"]
    values = [[float("nan") if value is None else value for value in row] for row in matrix]
    figure = Figure(figsize=(2.2 + 0.9 * len(names), 1.4 + 0.7 * len(names)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="viridis", vmin=0 if score(0.5, metric).endswith("%") else None)
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            if value is not None:
                light = value < 0.6 * max(v for each in matrix for v in each if v is not None)
                axes.text(
                    j, i, score(value, metric), ha="center", va="center", color="white" if light else "black"
                )
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("scored on")
    axes.set_ylabel("after training on")
    axes.set_title(f"{result['strategy']}: {metric}")
    figure.colorbar(image, ax=axes, shrink=0.8)
    figure.savefig(file, dpi=150)
