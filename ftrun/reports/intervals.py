"""The interval of one run's test score, as its own page shows it."""

from __future__ import annotations

from typing import Any

WORK, FEWEST = 100_000_000, 1000  # items drawn for an interval; resamples, however many items there are


def interval_of(metric: str | None, answered: list[dict[str, Any]]) -> tuple[float, float] | None:
    """The 95 % interval of a run's test score over its rows, from lines as in predictions.jsonl.

    It is the bias-corrected and accelerated bootstrap's (Efron 1987); None where the score is not made of
    single rows.
    """
    known = [line for line in answered if line.get("label") is not None and line.get("answer") is not None]
    if metric is None or len(known) < 2:
        return None
    import numpy

    from ftrun.reports.significance import RESAMPLES, estimate, resamples
    from ftrun.tasks.metrics.rescoring import scored

    found = scored(metric, [line["label"] for line in known], [line["answer"] for line in known])
    if found is None:
        return None
    draws = resamples([found], count=max(FEWEST, min(RESAMPLES, WORK // len(known))))
    both = estimate(numpy.array([found.score]), draws, found.left_out[:, None])
    return both.low, both.high
