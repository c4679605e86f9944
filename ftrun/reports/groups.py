"""Finished runs grouped by what may be compared: the same test rows and metric."""

from __future__ import annotations

import hashlib
import json
from itertools import combinations
from pathlib import Path
from typing import Any

from ftrun.errors import UserError
from ftrun.reports.comparison import Row
from ftrun.reports.diagnosing.calibration import calibration
from ftrun.reports.diagnosing.diagnosis import diagnose
from ftrun.reports.diagnosing.evidence import Evidence
from ftrun.reports.folding import joined
from ftrun.reports.naming import Names
from ftrun.reports.rivals import distinct, rivals_of
from ftrun.reports.statistics.pareto import dominated_by
from ftrun.reports.study import Group, Study, Tried, mean_of, of_equal_labels, pool_seeds, studied, tested
from ftrun.runs.content import answers_of
from ftrun.runs.run import Run
from ftrun.tasks.metrics.rescoring import Scored, scored

PAIRS = 15  # tests that are shown; where there would be more, each study is tested against the best one only
SAME_SCORE = 1e-6


def groups_of(rows: list[Row]) -> tuple[list[Group], list[str]]:
    """Groups of comparable finished runs, and why a finished run is in none of them."""
    together: dict[tuple[str, ...], list[Tried]] = {}
    opened, notes = [], []
    for row in rows:
        if row["state"] != "finished":
            continue
        try:
            key, tried = open_run(row)
        except UserError as error:
            notes.append(f"{row['label']}: {error}{_alone(row)}")
        else:
            opened.append((key, tried))
            try:
                opened += [(key, rival) for rival in rivals_of(row, tried)]
            except UserError as error:
                notes.append(f"{row['label']}: {error}, so its baselines are not compared")
    whole, missing = joined(opened)
    for key, tried in whole:
        together.setdefault(key, []).append(tried)
    return [_group(runs) for runs in together.values()], notes + missing


def _alone(row: Row) -> str:
    """What is wrong with a run whose score cannot be computed again, as the end of a sentence."""
    run = Run.open(row["run"])
    if not (run.path / "predictions.jsonl").is_file():
        return ""
    try:
        found = diagnose(Evidence.of(run, row["metric"]))
    except UserError:  # its files are damaged, which is said already
        return ""
    return "" if found.healthy else f"; it {found.text}"


def open_run(row: Row) -> tuple[tuple[str, ...], Tried]:
    """A finished run and the key of its group; UserError where its predictions cannot be scored again."""
    run = Run.open(row["run"])
    run.config = row["config"]  # which has been read
    if not (run.path / "predictions.jsonl").is_file():
        raise UserError("no predictions.jsonl, so it is not compared")
    answered = answers_of(run.path / "predictions.jsonl")
    if "tasks" in run.config["task"]:
        raise UserError("its score is the mean over several tasks, so it is not compared")
    if not answered or not all("label" in each and "answer" in each for each in answered):
        raise UserError("predictions.jsonl has no labels and answers, so it is not compared")
    labels, answers = [each["label"] for each in answered], [each["answer"] for each in answered]
    known = row["test_score"]
    found = scored(row["metric"], labels, answers) if row["metric"] else None
    if found is None or known is None:
        raise UserError(f"{row['metric']} cannot be computed from predictions.jsonl, so it is not compared")
    if abs(found.score - known) > SAME_SCORE:
        raise UserError(
            f"predictions.jsonl gives {row['metric']} {found.score:.6f} but result.json {known:.6f}, "
            "so it is not compared"
        )
    items = json.dumps([[each.get("row"), each["label"]] for each in answered]).encode()
    key = (row["config"]["task"].get("kind", ""), row["metric"], hashlib.sha256(items).hexdigest())
    return key, _tried(row, run, answered, found)


def _tried(row: Row, run: Run, answered: list[dict[str, Any]], found: Scored) -> Tried:
    classes = all(isinstance(each["label"], str) for each in answered)
    labels, answers = [each["label"] for each in answered], [each["answer"] for each in answered]
    right = [label == answer for label, answer in zip(labels, answers, strict=True)] if classes else None
    sure = [each.get("probability") for each in answered]
    known = right is not None and all(isinstance(p, float) for p in sure)
    calibrated = calibration(sure, right) if known and right is not None else None  # type: ignore[arg-type]
    seen = Evidence.of(run, row["metric"], calibrated, answered)
    return Tried(row, answered, found, right, calibrated, seen.lines, seen.result, diagnose(seen))


def _group(tried: list[Tried]) -> Group:
    tried = distinct(tried)
    places: dict[str, dict[int, int]] = {}
    for place, each in enumerate(tried):
        name = repr(sorted(each.row["settings"].items()))
        places.setdefault(name, {})[each.row["seed"]] = place  # a seed that ran twice counts once
    firsts = [tried[next(iter(seeds.values()))] for seeds in places.values()]
    known = {kind: Names([each.row for each in tried if each.baseline == kind]) for kind in (False, True)}
    names = [
        (known[each.baseline].of(each.row), known[each.baseline].of(each.row, count=False)) for each in firsts
    ]
    studies = []
    for (name, way), seeds in zip(names, places.values(), strict=True):
        if names.count((name, way)) > 1:
            row = tried[next(iter(seeds.values()))].row
            name = f"{name} ({row['task']}, {row['brief']})"
        own = [tried[place] for place in seeds.values()]
        studies.append(studied(name, way, own, _facts(own)))
    pool_seeds(studies)
    group = Group(tried[0].row["task"], tried[0].row["metric"], len({*tried[0].tested_rows}), studies)
    studies.sort(key=lambda study: -group.sign * study.score.value)
    group.pairs = tested(_chosen(group))
    for study in group.ways:
        study.dominated_by = dominated_by(study, group)
    return group


def _facts(tried: list[Tried]) -> dict[str, float | None]:
    facts = {
        key: mean_of([each.row[key] for each in tried])
        for key in ("trained_parameters", "seconds", "cpu_seconds", "memory_bytes", "forgetting")
    }
    sizes = [None if each.baseline else _size_of(Path(each.row["run"]) / "model") for each in tried]
    labels = [each.result.get("rows", {}).get("train") for each in tried]
    return facts | {"bytes": mean_of(sizes), "labels": mean_of(labels)}


def _chosen(group: Group) -> list[tuple[Study, Study]]:
    """Pairs with equal numbers of labels: all ways, or the best one and each other where that is too many.

    A baseline is tested against the best way alone: that decides whether training is worth it.
    """
    pairs, most = [], []
    for like in of_equal_labels(group.studies):
        ways = [study for study in like if not study.baseline]
        rivals = [(ways[0], study) for study in like if study.baseline and ways]
        pairs += [*combinations(ways, 2), *rivals]
        most += [*((ways[0], other) for other in ways[1:]), *rivals]
    return pairs if len(pairs) <= PAIRS else most


def _size_of(folder: Path) -> int | None:
    return (
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else None
    )
