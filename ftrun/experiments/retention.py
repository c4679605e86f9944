"""The earlier tasks of a run: the memory of its strategy, and forgetting at its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.models.model import put_back
from ftrun.models.similarity import drift, features
from ftrun.models.split import mean_square
from ftrun.runs.terminal import leads, say
from ftrun.strategies.base import Memory
from ftrun.training.preflight import PROBE, same_scale

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.training.loop import Loop
    from ftrun.training.source_task import SourceTask

PROBED = 4  # batches whose gradients are measured
TINY = 1e-16  # Adam's epsilon, squared
DRIFT_ROWS = 256  # examples whose features are compared


def measure(
    model: Model, data: TaskData, sources: list[SourceTask], settings: Settings, directory: Run
) -> None:
    """What the strategy measures on the network in one piece, in the run's directory."""
    rows = len(data.dataset("train"))
    settings.guard.measure(memory_in(model, sources, rows, settings, directory, lr_sum=0.0))


def remember(loop: Loop, settings: Settings, directory: Run) -> None:
    """What the strategy keeps of the earlier tasks; config.yaml gets the numbers that it was to find."""
    guard = settings.guard
    guard.remember(memory_of(loop, settings, directory))
    if (found := guard.settled()) and leads():
        directory.settle({"protect": found} if settings.protect is not None else found)


def memory_of(loop: Loop, settings: Settings, directory: Run) -> Memory:
    step = loop.step
    lr_sum = step.repeats * sum(step.course.rate(number) for number in range(loop.length.total))
    found = memory_in(step.model, loop.sources, len(step.dataset), settings, directory, lr_sum)
    return replace(found, adaptive=settings.train.adaptive, sizes=lambda: gradient_sizes(loop))


def memory_in(
    model: Model,
    sources: list[SourceTask],
    rows: int,
    settings: Settings,
    directory: Run,
    lr_sum: float,
) -> Memory:
    """The same without what takes steps to know."""
    source = settings.source
    return Memory(
        model=model,
        pasts=list(sources),
        rows=rows,
        shared=settings.scenario != "task" and source is not None and source.kind == "run",
        seed=settings.seed,
        lr_sum=lr_sum,
        directory=directory.path,
        earlier=Path(source.run) if source is not None and source.kind == "run" else None,
    )


def gradient_sizes(loop: Loop) -> dict[str, float]:
    """The root mean square of each trained weight's gradients, by name, on the first batches of the task."""
    step, train = loop.step, loop.settings.train
    order = list(step.dataset.epoch(loop.settings.seed, 0))[: PROBED * train.batch_size]
    starts = range(0, len(order), train.batch_size)
    squares = dict.fromkeys(step.parameters, 0.0)
    cost = dict(step.state.cost)
    step.wrapped.train()
    with put_back([*step.model.buffers(), *step.objective.buffers()]):
        for start in starts:
            with same_scale(loop.accelerator):
                step.gradient(order[start : start + train.batch_size])
            for name, parameter in step.parameters.items():
                if parameter.grad is not None:
                    squares[name] += mean_square(parameter.grad)
            step.optimizer.zero_grad()
    step.state.cost = cost
    return {name: max(value / len(starts), TINY) ** 0.5 for name, value in squares.items()}


def features_of(loop: Loop) -> list[Tensor]:
    """What each layer makes of the latest earlier task's texts; nothing where there is no source."""
    if not loop.sources:
        return []
    latest = loop.sources[-1]
    dataset = latest.data.dataset("validation")
    examples = dataset.examples[:DRIFT_ROWS]
    batches = [dataset.collate(examples[i : i + PROBE])["inputs"] for i in range(0, len(examples), PROBE)]
    return features(latest.model, batches)


def measure_before(loop: Loop) -> None:
    """What the network knows before the first step, on the test split of every earlier task."""
    loop.state.before = loop.source_scores("test")
    loop.log(loop.source_metrics("validation"))
    for source, scores in zip(loop.sources, loop.state.before, strict=True):
        metric = source.data.metric
        say(f"before training: {source.name} {metric} {scores[metric]:.4f}")


def measure_after(loop: Loop, first: list[Tensor]) -> dict[str, Any]:
    """What is left of the earlier tasks: scores before and after, what is forgotten, and drift by layer."""
    if not loop.sources:
        return {}
    measured = list(zip(loop.sources, loop.state.before, loop.source_scores("test"), strict=True))
    sources = [
        {
            "name": source.name,
            "metric": source.data.metric,
            "before": before,
            "after": now,
            "forgetting": source.forgetting(before, now),
            **source.gauge(before),
        }
        for source, before, now in measured
    ]
    forgetting = sum(source.forgetting(*pair) for source, *pair in measured) / len(measured)
    return {"forgetting": forgetting, "sources": sources, "drift": drift(first, features_of(loop))}
