"""Repeated tests: the runs of all folds, or of all splits, of one seed become one with all their answers."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace
from typing import Any

from ftrun.errors import counted
from ftrun.reports.answers import in_turn
from ftrun.reports.comparison import Row, strategy_words
from ftrun.reports.diagnosing.diagnosis import Diagnosis
from ftrun.reports.study import mean_of
from ftrun.reports.tried import Tried
from ftrun.tasks.metrics.rescoring import scored

Key = tuple[str, ...]  # of a group: what its runs have in common, the last part a hash of their test rows
Opened = list[tuple[Key, Tried]]
MEANS = ("eval_score", "seconds", "cpu_seconds", "trained_parameters", "memory_bytes", "forgetting")


def joined(opened: Opened) -> tuple[Opened, list[str]]:
    """The runs with those of a seed's folds, and then of its splits, as one; and why a seed is left out."""
    found, notes = _folds_joined(opened)
    if all(tried.row["split_seed"] is None for _, tried in found):
        return found, notes
    tasks: dict[str, Opened] = {}
    for key, tried in found:
        about = {name: value for name, value in tried.row["settings"].items() if name.startswith("task.")}
        alike = key[:-1], sorted((name, value) for name, value in about.items() if name != "task.subset")
        tasks.setdefault(repr(alike), []).append((key, tried))
    pairs = [_splits_joined(own) for own in tasks.values()]
    return [pair for own, _ in pairs for pair in own], [*notes, *(note for _, own in pairs for note in own)]


def _folds_joined(opened: Opened) -> tuple[Opened, list[str]]:
    """The runs with those of a seed's folds as one, and why a seed is left out: a fold of it is missing.

    An item is a row of a fold, in the order of the folds. Where all runs have the same fold, none is joined:
    they are compared on its rows.
    """
    if len({tried.row["fold"] for _, tried in opened} - {None}) < 2:
        return opened, []
    seeds: dict[tuple[str, int, int | None], dict[int, tuple[Key, Tried]]] = {}
    for key, tried in opened:
        if (fold := tried.row["fold"]) is not None:
            seeds.setdefault((*_seed(tried), tried.row["split_seed"]), {})[fold] = key, tried
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
            split = "" if row["split_seed"] is None else f", split_seed={row['split_seed']}"
            notes.append(f"{strategy_words(row)}, seed {row['seed']}{split}: {which} {verb} missing")
        else:
            found.append(_one([there[fold] for fold in range(count)]))
    return found, notes


def _splits_joined(opened: Opened) -> tuple[Opened, list[str]]:
    """The runs of one task with those of a seed's splits as one, and what is left out.

    An item is a row of a split, in the order of the split seeds. Every run has the same ones: those that keep
    the most runs. Where that is a single one, runs are compared within each split.
    """
    seeds: dict[tuple[str, int], dict[int, tuple[Key, Tried]]] = {}
    for key, tried in opened:
        seeds.setdefault(_seed(tried), {})[tried.row["split_seed"]] = key, tried
    trained = [{*there} for there in seeds.values() if not next(iter(there.values()))[1].baseline]
    often = Counter(map(frozenset, trained))  # few that differ, however many seeds
    kept = max(
        often, key=lambda own: (len(own) * sum(n for other, n in often.items() if own <= other), len(own))
    )
    if len(kept) < 2:
        return opened, []
    if said := _unlike_rows(opened):
        return opened, [said]
    found, notes = [], []
    for there in seeds.values():
        first = next(iter(there.values()))[1]
        lacking, more = sorted(kept - {*there}), sorted({*there} - kept)
        if not lacking:
            found.append(_one([there[split] for split in sorted(kept)], of_splits=True))
        if (lacking or more) and not first.baseline:
            which = ",".join(map(str, lacking or more))
            verb = "is" if len(lacking or more) == 1 else "are"
            why = f"missing of {_spelt(kept)}" if lacking else f"left out, most runs have {_spelt(kept)}"
            who = f"{strategy_words(first.row)}, seed {first.row['seed']}"
            notes.append(f"{who}: split_seed={which} {verb} {why}")
    return found, notes


def _spelt(splits: frozenset[int]) -> str:
    return f"split_seed={','.join(map(str, sorted(splits)))}"


def _seed(tried: Tried) -> tuple[str, int]:
    """What runs that are joined have in common: their settings and their seed."""
    return repr(sorted(tried.row["settings"].items())), tried.row["seed"]


def _unlike_rows(opened: Opened) -> str:
    """Why the splits of these runs cannot be one test: nothing tells which rows they have in common."""
    labels: dict[str | None, Any] = {}
    for _, tried in opened:
        told = "rows" in tried.result
        for name, label in zip(tried.answered.items.names, tried.labels, strict=True):
            if not told or name is None or labels.setdefault(name, label) != label:
                return (
                    f"{tried.row['label']}: an earlier version did not write which rows of the data splits"
                    " have in common, so each task.split_seed is compared on its own; train it again"
                )
    return ""


def _one(tests: list[tuple[Key, Tried]], of_splits: bool = False) -> tuple[Key, Tried]:
    """Several tests of a seed as one run: costs are those of one of them, the curves those of the first."""
    parts = [tried for _, tried in tests]
    first, row = parts[0], parts[0].row
    answered = in_turn([each.answered for each in parts])
    score = scored(row["metric"], answered.items.labels, answered.answers)
    assert score is not None, "the parts have been scored one by one"
    whole: Row = row | {name: mean_of([each.row[name] for each in parts]) for name in MEANS}
    whole |= {"fold": None, "test_score": score.score} | ({"split_seed": None} if of_splits else {})
    numbers: dict[str | None, int] = {}
    tried = replace(
        first,
        row=whole,
        answered=answered,
        score=score.score,
        left_out=score.left_out,
        diagnosis=_clearest([each.diagnosis for each in parts]),
        parts=[run for each in parts for run in each.runs],
        folds=_numbered(parts),
        rows=[numbers.setdefault(name, len(numbers)) for name in answered.items.names] if of_splits else None,
        ratio=_ratio(parts) if of_splits else None,
    )
    return (*tests[0][0][:-1], answered.items.key), tried


def _numbered(parts: list[Tried]) -> list[int]:
    """The number of the fold or split that each item is of; a split may have folds of its own."""
    found: list[int] = []
    for each in parts:
        before = found[-1] + 1 if found else 0
        found += [before + fold for fold in each.folds or [0] * len(each.answered)]
    return found


def _ratio(parts: list[Tried]) -> float | None:
    """The test rows of a split for each of its other rows; None of folds, whose number tells it.

    Validation rows count as learned from: they choose the step that is tested.
    """
    if parts[0].folds is not None:
        return 1 / (len(parts[0].parts) - 1)
    counts = [each.result["rows"] for each in parts]
    return statistics.fmean(own["test"] / (own["train"] + own["validation"]) for own in counts)


def _clearest(found: list[Diagnosis]) -> Diagnosis:
    """Of the parts' diagnoses the one with the most to say."""
    return max(found, key=lambda each: (each.untaught is not None, len(each.lacking), len(each.signs)))


def runs_in_words(tried: list[Tried]) -> str:
    """How many runs a study has: 3, 5 folds × 3 seeds, or 5 folds × 2 splits × 3 seeds."""
    parts = [f"{count} {name}" for name, count in tried[0].tests.items()]
    return " × ".join([*parts, counted(len(tried), "seed")]) if parts else str(len(tried))
