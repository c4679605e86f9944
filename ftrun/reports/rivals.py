"""The baselines of the data card as rows of a report: what costs nothing is tested like what is trained."""

from __future__ import annotations

import hashlib
import json
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ftrun.data.baselines import FEATURES_OF, NAMES
from ftrun.reports.answers import Answered
from ftrun.reports.diagnosing.diagnosis import Diagnosis
from ftrun.reports.tried import Tried
from ftrun.runs.artifacts import BASELINES
from ftrun.runs.content import answers_of
from ftrun.runs.run import Run
from ftrun.tasks.metrics.rescoring import scored

if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.reports.answers import Items
    from ftrun.reports.comparison import Row
    from ftrun.tasks.metrics.rescoring import Array

NOTHING = ("trained_parameters", "trained_share", "seconds", "cpu_seconds", "memory_bytes", "forgetting")

KNOWN = 64  # contents of files of baselines that are remembered


def rivals_of(row: Row, tried: Tried) -> list[Tried]:
    """What the baselines of a run's data card answered to its test rows, as if they had been runs.

    They belong to the rows that the run was trained on and, for the frozen features, to its network; whatever
    else was set does not make them others. None where they answered other rows than the run.
    """
    path = Run(row["run"]).path / BASELINES
    if not path.is_file():
        return []
    known = _read(path, path.read_bytes())
    if known.labels != tried.labels:
        return []
    found = []
    for key in known.answers:
        if (score := known.scored(key, row["metric"])) is not None:
            answered = known.answered(key, tried.answered.items)
            found.append(_as_run(row, tried, NAMES[key], key == FEATURES_OF, answered, *score))
    return found


class _Answers:
    """The labels of a file of baselines, and of each baseline that answered all rows its answers."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.labels = [line.get("label") for line in lines]
        whole = [key for key in NAMES if all(line.get(key) for line in lines)]
        self.answers = {key: [line[key]["answer"] for line in lines] for key in whole}
        sure = {key: [line[key].get("probability") for line in lines] for key in whole}
        self.sure = {
            key: array("d", own) for key, own in sure.items() if all(isinstance(each, float) for each in own)
        }
        self._scored: dict[tuple[str, str], tuple[float, Array] | None] = {}

    def scored(self, key: str, metric: str) -> tuple[float, Array] | None:
        """A baseline's score, and the scores without each item; None where its answers do not give them."""
        if (key, metric) not in self._scored:
            found = scored(metric, self.labels, self.answers[key])
            self._scored[key, metric] = None if found is None else (found.score, found.left_out)
        return self._scored[key, metric]

    def answered(self, key: str, items: Items) -> Answered:
        """A baseline's answers to these rows."""
        return Answered(items, self.answers[key], self.sure.get(key))


def _read(path: Path, content: bytes) -> _Answers:
    """A file's baselines; the same content, which a study has once for each of its runs, is read once."""
    mark = hashlib.sha256(content).digest()
    if mark not in _known:
        if len(_known) == KNOWN:
            _known.pop(next(iter(_known)))
        _known[mark] = _Answers(answers_of(path, NAMES))
    return _known[mark]


_known: dict[bytes, _Answers] = {}


def _as_run(
    row: Row, tried: Tried, name: str, reads: bool, answered: Answered, score: float, left_out: Array
) -> Tried:
    kept = {
        setting: value
        for setting, value in row["settings"].items()
        if setting.startswith("task.") or (reads and setting.startswith("model."))
    }
    own = row | dict.fromkeys(NOTHING) | {"strategy": name, "settings": kept | {"strategy": name}}
    config = {part: row["config"][part] for part in ("task", "model", "train")}
    return replace(
        tried,
        row=own | {"config": config, "test_score": score},
        answered=answered,
        score=score,
        left_out=left_out,
        result={"rows": tried.result.get("rows", {})},
        diagnosis=Diagnosis([], None, []),
        baseline=True,
    )


def distinct(tried: list[Tried]) -> list[Tried]:
    """The runs with each baseline once: not again for every strategy, nor for seeds that change nothing."""
    first: dict[tuple[str, str, str], Tried] = {}
    for each in tried:
        if each.baseline:
            first.setdefault((each.row["strategy"], json.dumps(each.answers), each.row["model"]), each)
    kept = {*map(id, first.values())}
    return [each for each in tried if not each.baseline or id(each) in kept]
