"""Cross-validation: the runs of all folds of one seed become one, whose answers are out of fold."""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import replace
from typing import Any

from ftrun.errors import counted
from ftrun.reports.comparison import Row, strategy_words
from ftrun.reports.diagnosing.calibration import calibration
from ftrun.reports.diagnosing.diagnosis import Diagnosis
from ftrun.reports.study import Tried
from ftrun.tasks.metrics.rescoring import scored

Key = tuple[str, ...]  # of a group: what its runs have in common, the last part a hash of their test rows
Opened = list[tuple[Key, Tried]]
MEANS = ("eval_score", "seconds", "cpu_seconds", "trained_parameters", "peak_memory_bytes", "forgetting")


def joined(opened: Opened) -> tuple[Opened, list[str]]:
    """The runs with those of a seed's folds as one, and why a seed is left out: a fold of it is missing.

    An item is a row of a fold, in the order of the folds. Where all runs have the same fold, none is joined:
    they are compared on its rows.
    """
    if len({tried.row["fold"] for _, tried in opened} - {None}) < 2:
        return opened, []
    seeds: dict[tuple[str, int], dict[int, tuple[Key, Tried]]] = {}
    for key, tried in opened:
        if (fold := tried.row["fold"]) is not None:
            settings = repr(sorted(tried.row["settings"].items()))
            seeds.setdefault((settings, tried.row["seed"]), {})[fold] = key, tried
    found, notes = [pair for pair in opened if pair[1].row["fold"] is None], []
    for there in seeds.values():
        first = next(iter(there.values()))[1]
        row = first.row
        count = row["config"]["task"]["folds"]
        missing = [str(fold) for fold in range(count) if fold not in there]
        if missing and first.baseline:
            continue
        if missing:
            which = f"{'fold' if len(missing) == 1 else 'folds'} {', '.join(missing)} of {count}"
            verb = "is" if len(missing) == 1 else "are"
            notes.append(f"{strategy_words(row)}, seed {row['seed']}: {which} {verb} missing")
        else:
            found.append(_one([there[fold] for fold in range(count)]))
    return found, notes


def _one(folds: list[tuple[Key, Tried]]) -> tuple[Key, Tried]:
    """The runs of all folds as one run: costs are those of one fold, the curves those of the first."""
    parts = [tried for _, tried in folds]
    first, row = parts[0], parts[0].row
    answered = [line for each in parts for line in each.answered]
    labels, answers = [line["label"] for line in answered], [line["answer"] for line in answered]
    score = scored(row["metric"], labels, answers)
    assert score is not None, "the folds have been scored one by one"
    right: list[bool] | None = None
    if all(each.right is not None for each in parts):
        right = [hit for each in parts for hit in each.right or []]
    sure = [line.get("probability") for line in answered]
    known = right is not None and all(isinstance(each, float) for each in sure)
    whole: Row = row | {name: _mean([each.row[name] for each in parts]) for name in MEANS}
    whole |= {"fold": None, "test_score": score.score}
    tried = replace(
        first,
        row=whole,
        answered=answered,
        scored=score,
        right=right,
        calibration=calibration(sure, right) if known and right is not None else None,  # type: ignore[arg-type]
        diagnosis=_clearest([each.diagnosis for each in parts]),
        parts=parts,
        folds=[fold for fold, each in enumerate(parts) for _ in each.answered],
    )
    rows = hashlib.sha256("".join(key[-1] for key, _ in folds).encode()).hexdigest()
    return (*folds[0][0][:-1], rows), tried


def _clearest(found: list[Diagnosis]) -> Diagnosis:
    """Of the folds' diagnoses the one with the most to say."""
    return max(found, key=lambda each: (each.untaught is not None, len(each.lacking), len(each.signs)))


def _mean(values: list[Any]) -> float | None:
    return None if None in values else statistics.fmean(values)


def runs_in_words(tried: list[Tried]) -> str:
    """How many runs a study has: 3, or 5 folds × 3 seeds."""
    parts = len(tried[0].parts)
    return f"{parts} folds × {counted(len(tried), 'seed')}" if parts else str(len(tried))
