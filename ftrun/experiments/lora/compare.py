"""Comparison of models on the same labelled rows: scores, intervals and paired tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftrun.data.tables import write_table
from ftrun.errors import DataError, counted
from ftrun.experiments.inference import FinishedRun
from ftrun.reports.answers import Shelf
from ftrun.reports.diagnosing.diagnosis import Diagnosis
from ftrun.reports.numbers import score
from ftrun.reports.pages.console import console
from ftrun.reports.pages.page import Section, as_markdown
from ftrun.reports.pages.terminal import on_terminal
from ftrun.reports.study import Group, studied, tested
from ftrun.reports.tried import Tried
from ftrun.reports.verdicts.sentences import interval, p_value_source, sentence
from ftrun.runs.content import answers_of
from ftrun.runs.find import open_trained
from ftrun.runs.run import PREDICTIONS
from ftrun.tasks.metrics.rescoring import scored
from ftrun.tasks.scorer import prediction_lines

BESIDE = "f1"  # the second score of the table


def answer(place: Path, file: str) -> None:
    """Write predictions.jsonl of a composition for the rows of a file, unless it exists."""
    if (place / PREDICTIONS).is_file():
        return
    finished = FinishedRun(open_trained(place))
    _, rows = finished.evaluate(finished.data(file))
    own = "/".join(Path(file).parts[-2:])  # as all that is stored in a run, relative to it
    for row in rows:
        if row.example.place is not None:
            row.example.place = row.example.place._replace(file=own)
    write_table(place / PREDICTIONS, prediction_lines(rows))


def group_of(task: str, metric: str, places: dict[str, Path]) -> Group:
    """The answers in each place as studies of one run; every one is tested against the first."""
    tried = [_tried(metric, place) for place in places.values()]
    studies = [studied(name, name, [each], {}) for name, each in zip(places, tried, strict=True)]
    group = Group(task, metric, len(tried[0].answered), studies)
    group.pairs = tested([(studies[0], other) for other in studies[1:]])
    return group


def _tried(metric: str, place: Path) -> Tried:
    lines = answers_of(place / PREDICTIONS)
    labels, answers = ([each[key] for each in lines] for key in ("label", "answer"))
    found = scored(metric, labels, answers)
    if found is None:
        raise DataError(f"{place / PREDICTIONS} does not contain the data for {metric}")
    row = {"seed": 0, "metric": metric, BESIDE: scored(BESIDE, labels, answers)}
    held = Shelf().put(lines, keep=False)
    return Tried(row, held, found.score, found.left_out, {}, Diagnosis([], None, []))


def standing(group: Group) -> list[dict[str, Any]]:
    """Score, interval and F1 of each, JSON-ready."""
    found = []
    for study in group.studies:
        ends = {"score": study.score.value, "low": study.score.low, "high": study.score.high}
        found.append({"name": study.name, **ends, BESIDE: study.tried[0].row[BESIDE].score})
    return found


def section_of(group: Group) -> Section:
    """The table and the sentences, which compare every study with the first."""
    rows = [
        [study.name, interval(study.score, group.metric), score(study.tried[0].row[BESIDE].score, BESIDE)]
        for study in group.studies
    ]
    title = f"{group.task}: {group.metric} on {counted(group.items, 'row')} of the domain, 95 % intervals"
    columns = [("", False), (group.metric, True), ("F1", True)]
    sentences = [sentence(pair, group) for pair in group.pairs]
    return Section(title, columns, rows, [*sentences, p_value_source(group)])


def show(group: Group) -> None:
    """The table and the sentences on the terminal."""
    on_terminal(console(), [section_of(group)])


def page(group: Group) -> str:
    """The same as a document."""
    return as_markdown([section_of(group)]).lstrip()
