"""Runs on the same test rows with the same metric: a study for each way to train, tested in pairs."""

from __future__ import annotations

import hashlib
import json
import statistics
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import UserError
from ftrun.reports.calibration import calibration
from ftrun.reports.comparison import Row, strategy_words
from ftrun.reports.diagnosis import Diagnosis, diagnose, untaught
from ftrun.reports.rescoring import Scored, scored
from ftrun.reports.significance import (
    ALPHA,
    RESAMPLES,
    Estimate,
    Runs,
    difference,
    estimate,
    holm,
    mcnemar,
    p_of,
    resamples,
)
from ftrun.reports.summary import PERCENT, lower_is_better
from ftrun.runs.files import read_lines
from ftrun.runs.run import Run

if TYPE_CHECKING:
    from ftrun.reports.calibration import Calibration

PAIRS = 15  # tests that are shown; where there would be more, each study meets the best one only
SAME_COST = 0.1  # times and memory within a tenth of each other are equal
SAME_SCORE = 1e-6


@dataclass
class Tried:
    """A finished run with its answers to the test rows."""

    row: Row
    scored: Scored
    right: list[bool] | None  # of answers that are right or wrong
    calibration: Calibration | None
    lines: list[dict[str, Any]]
    result: dict[str, Any]
    diagnosis: Diagnosis


@dataclass
class Study:
    """One way to train, over its seeds."""

    name: str
    tried: list[Tried]
    runs: Runs
    score: Estimate
    facts: dict[str, float | None]  # means over the runs
    dominated_by: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        return self.tried[0].row["config"]


@dataclass
class Pair:
    """Two studies on the same items: the difference, how it was tested and what came out."""

    first: Study
    second: Study
    found: Estimate  # first minus second
    test: str
    p: float
    corrected: float = 1.0

    @property
    def apart(self) -> bool:
        return self.corrected < ALPHA


@dataclass
class Group:
    """Studies that may be compared."""

    task: str
    metric: str
    items: int
    studies: list[Study]
    pairs: list[Pair] = field(default_factory=list)

    @property
    def sign(self) -> int:
        """-1 where less is better."""
        return -1 if lower_is_better(self.metric) else 1

    @property
    def best(self) -> Study:
        return max(self.studies, key=lambda study: self.sign * study.score.value)


def groups_of(rows: list[Row], count: int = RESAMPLES) -> tuple[list[Group], list[str]]:
    """Groups of finished runs, and why a finished run is in none of them."""
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
    return [_group(runs, count) for runs in together.values()], notes


def open_run(row: Row) -> tuple[tuple[str, ...], Tried]:
    """A finished run and what it may be compared with; UserError where its answers cannot be scored again."""
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
        raise UserError(f"{row['metric']} cannot be told from predictions.jsonl, so it is not compared")
    if abs(found.score - known) > SAME_SCORE:
        raise UserError(
            f"predictions.jsonl gives {row['metric']} {found.score:.6f}, result.json says {known:.6f}; "
            "it is not compared"
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


def _group(tried: list[Tried], count: int) -> Group:
    draws = resamples([each.scored for each in tried], count=count)
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
        chosen = list(seeds.values())
        own = [tried[place] for place in chosen]
        studies.append(studied(name, own, draws[:, chosen], _facts(own)))
    group = Group(tried[0].row["task"], tried[0].row["metric"], len(tried[0].scored.columns), studies)
    studies.sort(key=lambda study: -group.sign * study.score.value)
    group.pairs = tested(_chosen(group))
    for study in studies:
        study.dominated_by = _dominated(study, group)
    return group


def studied(name: str, tried: list[Tried], draws: Any, facts: dict[str, float | None]) -> Study:
    """One way to train from its runs and their resamples, (count, runs)."""
    import numpy

    observed = numpy.array([each.scored.score for each in tried])
    left_out = numpy.stack([each.scored.left_out for each in tried], 1)
    runs = Runs([each.row["seed"] for each in tried], observed, draws, left_out)
    found = estimate(observed, draws, left_out)
    if tried[0].row["metric"] in PERCENT:
        found.low, found.high = max(found.low, 0.0), min(found.high, 1.0)
    return Study(name, tried, runs, found, facts)


def _facts(tried: list[Tried]) -> dict[str, float | None]:
    facts = {
        key: _mean([each.row[key] for each in tried])
        for key in ("trained_parameters", "seconds", "cpu_seconds", "peak_memory_bytes", "forgetting")
    }
    sizes = [_size_of(Path(each.row["run"]) / "model") for each in tried]
    labels = [each.result.get("rows", {}).get("train") for each in tried]
    return facts | {"bytes": _mean(sizes), "labels": _mean(labels)}


def _chosen(group: Group) -> list[tuple[Study, Study]]:
    """All pairs with equal numbers of labels; with each one's best only where these would be too many."""
    by_labels: dict[str, list[Study]] = {}
    for study in group.studies:
        by_labels.setdefault(str(study.config["task"].get("subset")), []).append(study)
    pairs = [pair for like in by_labels.values() for pair in combinations(like, 2)]
    if len(pairs) <= PAIRS:
        return pairs
    return [(like[0], other) for like in by_labels.values() for other in like[1:]]


def tested(pairs: list[tuple[Study, Study]]) -> list[Pair]:
    """The pairs with their p values, corrected for their number."""
    found = [compare(first, second) for first, second in pairs]
    for pair, corrected in zip(found, holm([pair.p for pair in found]), strict=True):
        pair.corrected = corrected
    return found


def compare(first: Study, second: Study) -> Pair:
    """McNemar's test for the accuracy of two runs, the paired bootstrap for any other score or more runs."""
    found = difference(first.runs, second.runs)
    one, other = first.tried[0], second.tried[0]
    if found.seeds_error is not None:
        return Pair(first, second, found, "paired bootstrap over items, Student's t over seeds", p_of(found))
    if one.row["metric"] == "accuracy" and one.right is not None and other.right is not None:
        hits = list(zip(one.right, other.right, strict=True))
        p = mcnemar(sum(a and not b for a, b in hits), sum(b and not a for a, b in hits))
        return Pair(first, second, found, "exact McNemar", p)
    p = p_of(found, first.runs.draws[:, 0] - second.runs.draws[:, 0])
    return Pair(first, second, found, "paired bootstrap", p)


def _dominated(study: Study, group: Group) -> str | None:
    """The study that is at least as good in everything that counts and better in something beyond noise."""
    apart = {id(pair.second): pair.apart for pair in group.pairs if pair.first is study}
    apart |= {id(pair.first): pair.apart for pair in group.pairs if pair.second is study}
    subset = study.config["task"].get("subset")
    for other in group.studies:
        if other is study or other.config["task"].get("subset") != subset:
            continue
        clear = apart.get(id(other), False)  # a pair that was not tested is no clear win
        wins = clear and group.sign * (other.score.value - study.score.value) > 0
        if group.sign * (other.score.value - study.score.value) < 0:
            continue
        costs = [_cheaper(other.facts[key], study.facts[key], key) for key in COUNTED]
        if all(cost >= 0 for cost in costs) and (wins or any(cost > 0 for cost in costs)):
            return other.name
    return None


COUNTED = ("trained_parameters", "seconds", "peak_memory_bytes", "forgetting")


def _cheaper(mine: float | None, theirs: float | None, key: str) -> int:
    """1 where mine is less, -1 where it is more, 0 where both are alike or not known."""
    if mine is None or theirs is None:
        return 0
    slack = SAME_COST * max(mine, theirs) if key in ("seconds", "peak_memory_bytes") else 0.0
    return 0 if abs(mine - theirs) <= slack else 1 if mine < theirs else -1


def _mean(values: list[Any]) -> float | None:
    return statistics.fmean(values) if values and all(value is not None for value in values) else None


def _size_of(folder: Path) -> int | None:
    return (
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else None
    )
