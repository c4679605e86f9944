"""The progress of a run, without tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftrun.data.card import DIGITS

if TYPE_CHECKING:
    from ftrun.tasks.metrics.metric import Metric

ROUNDING = 10.0 ** (1 - DIGITS)  # relative, of the baselines in data.json
COSTS = ("seconds", "cpu_seconds", "train_seconds", "train_cpu_seconds", "tokens", "padded_tokens")


@dataclass
class State:
    """Everything that changes during training besides tensors; a checkpoint holds both."""

    step: int = 0  # batches processed
    updates: int = 0  # optimizer steps; fewer than `step` only where a non-finite gradient skipped one
    epoch: int = 0
    position: int = 0  # batches of this epoch processed
    micro_batch: int = 0
    loss_sum: float = 0.0  # since the last line of metrics
    loss_count: float = 0.0  # targets in loss_sum, or their weights
    parts: dict[str, list[float]] = field(
        default_factory=dict
    )  # components of the loss: sum and count since that line
    bad_steps: int = 0  # in a row
    best: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # evaluations since the best
    moved: bool = False  # the metric has changed since the first evaluation: training has begun to show
    stopped: bool = False  # early, by patience
    metrics_size: int = 0
    kept: dict[str, bool] = field(default_factory=dict)  # lowest trained stage → are the features below kept?
    compiled: str = ""  # what the kernels of train.compile depend on
    before: list[dict[str, float]] = field(default_factory=list)  # test scores of each earlier task at step 0
    cost: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0))
    # of a head that is solved for: log10 of each L2 strength tried, and the numbers that rank it
    tried: list[list[float]] = field(default_factory=list)
    soup: int = 0  # evaluations whose weights are in the average of train.average=soup


def better(scores: dict[str, float], best: dict[str, float], metric: Metric) -> bool:
    """Whether scores are better than the best, by the metric and, in a tie, by the loss; NaN never is."""
    name, sign = metric.name, metric.sign
    if math.isnan(scores[name]):
        return False
    if not best:
        return True
    new, old = (sign * scores[name], -scores["loss"]), (sign * best[name], -best["loss"])
    return new > old


def praise(score: float, first: bool, metric: Metric, constant: float | None, words: str) -> str:
    """What is said of the best score so far, unless an answer without training has it as well.

    `constant` is that of a constant answer called `words`, such as the most frequent label, where known.
    """
    if constant is not None and metric.sign * (score - constant) <= ROUNDING * abs(constant):
        return f"  no better than the {words}" if first else ""
    return "" if metric.is_share and score == 0 else "  best so far"
