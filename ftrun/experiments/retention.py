"""What a run looks at of the tasks before it: what a strategy shall hold, and what is left in the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.models.similarity import drift, features
from ftrun.runs.terminal import say
from ftrun.strategies.base import Memory
from ftrun.training.preflight import PROBE

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.training.loop import Loop

DRIFT_ROWS = 256  # examples whose features are compared


def memory_of(loop: Loop, settings: Settings, directory: Run) -> Memory:
    source = settings.source
    return Memory(
        model=loop.model,
        pasts=list(loop.pasts),
        rows=len(loop.examples),
        shared=settings.scenario != "task" and source is not None and source.kind == "run",
        seed=settings.seed,
        way=sum(loop.course.rate(step) for step in range(loop.length.total)),
        directory=directory.path,
        earlier=Path(source.run) if source is not None and source.kind == "run" else None,
    )


def features_of(loop: Loop) -> list[Tensor]:
    """What each layer makes of the latest earlier task's texts; nothing where there is no source."""
    if not loop.pasts:
        return []
    task = loop.pasts[-1].task
    examples = task.examples("validation")[:DRIFT_ROWS]
    batches = [task.collate(examples[i : i + PROBE])["inputs"] for i in range(0, len(examples), PROBE)]
    return features(loop.pasts[-1].model, batches)


def measure_before(loop: Loop) -> None:
    """What the network knows before the first step, on the test split of every earlier task."""
    loop.state.before = loop.source_scores("test")
    loop.log(loop.source_metrics("validation"))
    for past, scores in zip(loop.pasts, loop.state.before, strict=True):
        metric = past.task.default_metric
        say(f"before: {past.name} {metric} {scores[metric]:.4f}")


def left(loop: Loop, first: list[Tensor]) -> dict[str, Any]:
    """What is left of the earlier tasks: scores before and after, what is forgotten, and drift by layer."""
    if not loop.pasts:
        return {}
    measured = list(zip(loop.pasts, loop.state.before, loop.source_scores("test"), strict=True))
    sources = [
        {
            "name": past.name,
            "metric": past.task.default_metric,
            "before": before,
            "after": now,
            "forgetting": past.forgotten(before, now),
        }
        for past, before, now in measured
    ]
    forgetting = sum(past.forgotten(*pair) for past, *pair in measured) / len(measured)
    return {"forgetting": forgetting, "sources": sources, "drift": drift(first, features_of(loop))}
