"""Rare labels: where an accuracy hardly counts them, and how unsure they make a mean over labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ftrun.errors import counted

COMMON = 0.8  # of the rows have one label: then the others hardly change the accuracy
COUNTED = "task.balance=weights train.metric=f1"  # what learns and counts them
OVER_LABELS = ("f1", "macro_f1", "precision", "recall")  # means over labels, each counting the same


def unbalanced(most: float, task: Mapping[str, Any]) -> bool:
    """Whether training hardly sees the other labels, where the most frequent one has this share of the rows.

    `task` are the settings of the task, of which `balance` may have been chosen for them already.
    """
    return COMMON <= most < 1 and task.get("balance") == "none"


def hidden(metric: str | None, most: float, task: Mapping[str, Any]) -> bool:
    """Whether the metric hardly counts them either."""
    return metric == "accuracy" and unbalanced(most, task)


def hidden_words(metric: str | None, rows: Mapping[str, int], task: Mapping[str, Any]) -> str:
    """A sentence where labels are hidden or absent, from the test rows of each; else nothing."""
    total, (name, most) = sum(rows.values()), max(rows.items(), key=lambda item: item[1])
    if most == total:
        return f"all {counted(total, 'test row')} are {name!r}, so no score tells anything of other labels"
    if not hidden(metric, most / total, task):
        return ""
    return (
        f"{most:,} of {total:,} test rows are {name!r}, so {metric} hardly counts the other {total - most:,};"
        f" what does: {COUNTED}"
    )


def equal_rows(rows: Collection[int]) -> float:
    """As many rows, equally many of each label, tell a mean over labels as well as these do.

    The variance of a mean over k labels is the mean of theirs over k, each of one over its rows n (Cochran
    1977, stratified sampling): k² / Σ 1/n.
    """
    return len(rows) ** 2 / sum(1 / count for count in rows)
