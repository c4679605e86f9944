"""The interval of one run's score over its rows, as its own page shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftrun.reports.statistics.significance import Estimate
    from ftrun.reports.tried import Tried
    from ftrun.tasks.metrics.rescoring import Scored

Lines = list[dict[str, Any]]  # of predictions.jsonl


def interval_of(metric: str | None, answered: Lines) -> tuple[float, float] | None:
    """The 95 % interval of a run's test score; None where single rows do not make it, or it is undefined."""
    if any("task" in line for line in answered):  # a mean over tasks
        return None
    known = [line for line in answered if line.get("label") is not None and line.get("answer") is not None]
    found = scored_lines(metric, known) if metric is not None and len(known) > 1 else None
    if found is None or metric is None or not found.defined:
        return None
    both = of_one_run(found, metric)
    return both.low, both.high


def scored_lines(metric: str, lines: Lines) -> Scored | None:
    """The metric of these answers; None where it cannot be computed from labels and answers."""
    from ftrun.tasks.metrics.rescoring import scored

    return scored(metric, [line["label"] for line in lines], [line["answer"] for line in lines])


def of_one_run(found: Scored | Tried, metric: str) -> Estimate:
    """The score of a single run with its interval, which is of its rows alone."""
    import numpy

    from ftrun.reports.statistics.seeds import Runs
    from ftrun.reports.statistics.significance import estimate
    from ftrun.tasks.metrics.metric import lookup

    runs = Runs([0], numpy.array([found.score]), found.left_out[:, None])
    known = lookup(metric)
    return estimate(runs, share=known.is_share, ends=known.ends)
