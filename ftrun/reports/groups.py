"""Finished runs grouped by what may be compared: the same test rows and metric."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from pathlib import Path

from ftrun.errors import UserError
from ftrun.reports.answers import Line, Shelf
from ftrun.reports.comparison import Row
from ftrun.reports.diagnosing.calibration import Calibration, calibration
from ftrun.reports.diagnosing.diagnosis import diagnose
from ftrun.reports.diagnosing.evidence import Evidence
from ftrun.reports.folding import Key, Opened, joined
from ftrun.reports.naming import Names
from ftrun.reports.rivals import distinct, rivals_of
from ftrun.reports.statistics.pareto import dominating
from ftrun.reports.study import Group, Study, mean_of, of_equal_labels, pool_seeds, studied, tested
from ftrun.reports.tried import Tried
from ftrun.runs.content import answers_of
from ftrun.runs.manifest import own
from ftrun.runs.run import Run
from ftrun.tasks.metrics.rescoring import scored

PAIRS = 15  # tests that are shown; where there would be more, each study is tested against the best one only
SAME_SCORE = 1e-6
RESULTS = ("rows", "steps", "layers", "l2")  # of result.json, beside the facts of a row


def groups_of(rows: list[Row]) -> tuple[list[Group], list[str]]:
    """Groups of comparable finished runs, and why a finished run is in none of them."""
    together: dict[Key, list[Tried]] = {}
    opened: Opened = []
    seen: set[tuple[Key, str, int, str]] = set()
    notes, shelf = [], Shelf()
    for row in rows:
        if row["state"] != "finished":
            continue
        try:
            key, tried = open_run(row, shelf)
        except UserError as error:
            notes.append(f"{row['label']}: {error}{_alone(row)}")
        else:
            opened.append((key, tried))
            try:
                opened += [(key, rival) for rival in rivals_of(row, tried) if _is_new(key, rival, seen)]
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


def _is_new(key: Key, rival: Tried, seen: set[tuple[Key, str, int, str]]) -> bool:
    """Whether no run before had this baseline with the same answers; of folds and splits all are needed."""
    row, mark = rival.row, (key, rival.row["strategy"], id(rival.answers), rival.row["model"])
    if row["fold"] is not None or row["split_seed"] is not None:
        return True
    new = mark not in seen
    seen.add(mark)
    return new


def open_run(row: Row, shelf: Shelf) -> tuple[Key, Tried]:
    """A finished run and the key of its group; UserError where its predictions cannot be scored again."""
    run = Run.open(row["run"])
    run.config, run.asked = row["config"], row["asked"]  # which have been read
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
    if not math.isclose(found.score, known, rel_tol=SAME_SCORE, abs_tol=SAME_SCORE):
        raise UserError(
            f"predictions.jsonl gives {row['metric']} {found.score:.6f} but result.json {known:.6f}, "
            "so it is not compared"
        )
    seen = Evidence.of(run, row["metric"], calibration_of(answered), answered)
    diagnosis = diagnose(seen)
    held = shelf.put(answered, keep=not diagnosis.learned_too_little)
    key = (row["config"]["task"].get("kind", ""), row["metric"], held.items.key)
    kept = {name: seen.result[name] for name in RESULTS if name in seen.result}
    return key, Tried(row, held, found.score, found.left_out, kept, diagnosis)


def calibration_of(answered: list[Line]) -> Calibration | None:
    """Of answers that are one name each, with a probability; None of others."""
    sure = [p for each in answered if isinstance(p := each.get("probability"), float)]
    right = [each["label"] == each["answer"] for each in answered if isinstance(each["label"], str)]
    return calibration(sure, right) if len(sure) == len(right) == len(answered) else None


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
    studies, often = [], Counter(names)
    for (name, way), seeds in zip(names, places.values(), strict=True):
        if often[name, way] > 1:
            row = tried[next(iter(seeds.values()))].row
            name = f"{name} ({row['task']}, {row['brief']})"
        own = [tried[place] for place in seeds.values()]
        studies.append(studied(name, way, own, _facts(own)))
    pool_seeds(studies)
    group = Group(tried[0].row["task"], tried[0].row["metric"], len({*tried[0].tested_rows}), studies)
    studies.sort(key=lambda study: -group.sign * study.score.value)
    group.pairs = tested(_chosen(group))
    for study, other in zip(group.ways, dominating(group), strict=True):
        study.dominated_by = other
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
    alike = of_equal_labels(group.studies)
    of_all = [_pairs_of(studies, every=True) for studies in alike if len(studies) <= PAIRS]
    few = len(of_all) == len(alike) and sum(map(len, of_all)) <= PAIRS
    return [pair for own in (of_all if few else map(_pairs_of, alike)) for pair in own]


def _pairs_of(studies: list[Study], every: bool = False) -> list[tuple[Study, Study]]:
    """The best way with each other one, or every pair of them, and with the baselines.

    The best of those that learned something, where one did; `studies` are in the order of their scores.
    """
    ways = sorted((study for study in studies if not study.baseline), key=lambda study: study.untaught)
    rivals = [(ways[0], study) for study in studies if study.baseline and ways]
    return [*(combinations(ways, 2) if every else ((ways[0], other) for other in ways[1:])), *rivals]


def _size_of(folder: Path) -> int | None:
    """Bytes of a saved model without the checkpoint below its adapters."""
    return sum(path.stat().st_size for path in own(folder)) if folder.is_dir() else None
