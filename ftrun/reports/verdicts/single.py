"""What is to be said of one run: rows that leaked, baselines that it does not beat, and its diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.data.baselines import ALWAYS, FEATURES_OF, MAJORITY, NAMES, SUBJECTS
from ftrun.data.card import rounded
from ftrun.data.leaks import leaked
from ftrun.reports.numbers import score
from ftrun.reports.rare import COUNTED, hidden
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from ftrun.reports.diagnosing.diagnosis import Diagnosis


def verdict_of(row: dict[str, Any], card: dict[str, Any], found: Diagnosis) -> list[tuple[str, str]]:
    """Pairs of what a sentence is and the sentence; the last is the diagnosis, of a healthy run too."""
    return [*warnings_of(row, card), ("diagnosis", found.text)]


def warnings_of(row: dict[str, Any], card: dict[str, Any]) -> list[tuple[str, str]]:
    """Of the rows and the baselines alone."""
    leaks = [("LEAK", leaked(leak)) for leak in card.get("leaks", [])]
    return [*leaks, *(("warning", line) for line in baseline_warnings(row, card.get("baselines", {})))]


def baseline_warnings(row: dict[str, Any], baselines: dict[str, Any]) -> list[str]:
    """A sentence for each baseline whose test score the run does not beat; its subject's number comes first.

    A head that was solved for is the regression on frozen features itself, and not measured against it.
    """
    metric, ours = row["metric"], row["test_score"]
    ours = None if ours is None else rounded(ours)  # as the baselines are
    sign, lines = lookup(metric).sign, []
    for name in NAMES:
        if name == FEATURES_OF and row.get("l2") is not None:
            continue
        theirs = baselines.get(name, {}).get(f"test_{metric}")
        if ours is None or theirs is None or sign * theirs < sign * ours:
            continue
        mine, other = score(ours, metric), score(theirs, metric)
        if name in ALWAYS:
            unseen = name == MAJORITY and hidden(metric, theirs, row["config"]["task"])
            rare = f"; for rare labels: {COUNTED}" if unseen else ""
            lines.append(
                f"no better than {ALWAYS[name]} on the test split ({metric} {mine} against {other}){rare}"
            )
        else:
            verdict = "match" if theirs == ours else "beat"
            verb = verdict if name == FEATURES_OF else {"match": "matches", "beat": "beats"}[verdict]
            lines.append(
                f"{SUBJECTS[name]} {verb} this model on the test split ({metric} {other} against {mine})"
            )
    return lines
