"""Finished runs grouped by what may be compared: the same test rows and metric."""

from __future__ import annotations

import hashlib
import json
import statistics
from itertools import combinations
from pathlib import Path
from typing import Any

from ftrun.errors import UserError
from ftrun.reports.calibration import calibration
from ftrun.reports.comparison import Row, strategy_words
from ftrun.reports.diagnosis import diagnose, untaught
from ftrun.reports.pareto import dominated_by
from ftrun.reports.study import Group, Study, Tried, of_equal_labels, pool_seeds, studied, tested
from ftrun.runs.files import read_lines
from ftrun.runs.run import Run
from ftrun.tasks.metrics.rescoring import Scored, scored

PAIRS = 15  # tests that are shown; where there would be more, each study is tested against the best one only
SAME_SCORE = 1e-6


def groups_of(rows: list[Row]) -> tuple[list[Group], list[str]]:
    """Groups of comparable finished runs, and why a finished run is in none of them."""
    together: dict[tuple[str, ...], list[Tried]] = {}
    notes = []
    for row in rows:
        if row["state"] != "finished":
            continue
        try:
            key, tried = open_run(row)
        except UserError as error:
            notes.append(f"{row['label']}: {error}")
        else:
            together.setdefault(key, []).append(tried)
    return [_group(runs) for runs in together.values()], notes


def open_run(row: Row) -> tuple[tuple[str, ...], Tried]:
    """A finished run and the key of its group; UserError where its predictions cannot be scored again."""
    run = Run.open(row["run"])
    if not (run.path / "predictions.jsonl").is_file():
        raise UserError("no predictions.jsonl, so it is not compared")
    answered = read_lines(run.path / "predictions.jsonl")
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
    lines, result = run.metrics(), run.read_json("result.json")
    blank = untaught(labels, answers, row["config"], result) if classes else None
    verdict = blank or diagnose(row["config"], lines, result, row["metric"], calibrated)
    return Tried(row, found, right, calibrated, lines, result, verdict)


def _group(tried: list[Tried]) -> Group:
    places: dict[str, dict[int, int]] = {}
    for place, each in enumerate(tried):
        name = repr(sorted(each.row["settings"].items()))
        places.setdefault(name, {})[each.row["seed"]] = place  # a seed that ran twice counts once
    names = [strategy_words(tried[next(iter(seeds.values()))].row) for seeds in places.values()]
    studies = []
    for name, seeds in zip(names, places.values(), strict=True):
        if names.count(name) > 1:
            row = tried[next(iter(seeds.values()))].row
            name = f"{name} ({row['task']}, {row['model']}, {row['brief']})"
        own = [tried[place] for place in seeds.values()]
        studies.append(studied(name, own, _facts(own)))
    pool_seeds(studies)
    group = Group(tried[0].row["task"], tried[0].row["metric"], len(tried[0].scored.columns), studies)
    studies.sort(key=lambda study: -group.sign * study.score.value)
    group.pairs = tested(_chosen(group))
    for study in studies:
        study.dominated_by = dominated_by(study, group)
    return group


def _facts(tried: list[Tried]) -> dict[str, float | None]:
    facts = {
        key: _mean([each.row[key] for each in tried])
        for key in ("trained_parameters", "seconds", "cpu_seconds", "peak_memory_bytes", "forgetting")
    }
    sizes = [_size_of(Path(each.row["run"]) / "model") for each in tried]
    labels = [each.result.get("rows", {}).get("train") for each in tried]
    return facts | {"bytes": _mean(sizes), "labels": _mean(labels)}


def _chosen(group: Group) -> list[tuple[Study, Study]]:
    """All pairs with equal numbers of labels, or only those with the best study where that is too many."""
    by_labels = of_equal_labels(group.studies)
    pairs = [pair for like in by_labels for pair in combinations(like, 2)]
    if len(pairs) <= PAIRS:
        return pairs
    return [(like[0], other) for like in by_labels for other in like[1:]]


def _mean(values: list[Any]) -> float | None:
    return statistics.fmean(values) if values and all(value is not None for value in values) else None


def _size_of(folder: Path) -> int | None:
    return (
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else None
    )
