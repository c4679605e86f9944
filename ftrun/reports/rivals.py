"""The baselines of the data card as rows of a report: what costs nothing is tested like what is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ftrun.data.baselines import FEATURES_OF, NAMES
from ftrun.reports.diagnosing.diagnosis import Diagnosis
from ftrun.reports.study import Tried
from ftrun.runs.artifacts import BASELINES
from ftrun.runs.content import answers_of
from ftrun.runs.run import Run
from ftrun.tasks.metrics.rescoring import scored

if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.reports.comparison import Row
    from ftrun.tasks.metrics.rescoring import Scored

NOTHING = ("trained_parameters", "trained_share", "seconds", "cpu_seconds", "memory_bytes", "forgetting")

KNOWN = 4  # contents of files of baselines that are remembered
KEPT = ("row", "label", "text", "file", "file_row")  # of a run's answers to the same rows


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
    for key, answers in known.answers.items():
        answered = [
            {name: own[name] for name in KEPT if name in own} | answer
            for own, answer in zip(tried.answered, answers, strict=True)
        ]
        if (score := known.scored(key, row["metric"])) is not None:
            found.append(_as_run(row, tried, NAMES[key], key == FEATURES_OF, answered, score))
    return found


class _Answers:
    """The labels of a file of baselines, and of each baseline that answered all rows its answers."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.labels = [line.get("label") for line in lines]
        whole = [key for key in NAMES if all(key in line for line in lines)]
        self.answers = {key: [line[key] for line in lines] for key in whole}
        self._scored: dict[tuple[str, str], Scored | None] = {}

    def scored(self, key: str, metric: str) -> Scored | None:
        """A baseline's answers by a metric; None where it cannot be computed from them."""
        if (key, metric) not in self._scored:
            answers = [answer["answer"] for answer in self.answers[key]]
            self._scored[key, metric] = scored(metric, self.labels, answers)
        return self._scored[key, metric]


def _read(path: Path, content: bytes) -> _Answers:
    """A file's baselines; the same content, which a study has once for each of its runs, is read once."""
    if content not in _known:
        if len(_known) == KNOWN:
            _known.pop(next(iter(_known)))
        _known[content] = _Answers(answers_of(path, NAMES))
    return _known[content]


_known: dict[bytes, _Answers] = {}


def _as_run(
    row: Row, tried: Tried, name: str, reads: bool, answered: list[dict[str, Any]], score: Scored
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
        row=own | {"config": config, "test_score": score.score},
        scored=score,
        answered=answered,
        right=None if tried.right is None else [line["label"] == line["answer"] for line in answered],
        calibration=None,
        lines=[],
        result={"rows": tried.result.get("rows", {})},
        diagnosis=Diagnosis([], None, []),
        baseline=True,
    )


def distinct(tried: list[Tried]) -> list[Tried]:
    """The runs with each baseline once: not again for every strategy, nor for seeds that change nothing."""
    seen: set[tuple[str, str, str]] = set()
    found = []
    for each in tried:
        mark = (each.row["strategy"], json.dumps(each.answers), each.row["model"])
        if not each.baseline or mark not in seen:
            found.append(each)
        seen.add(mark)
    return found
