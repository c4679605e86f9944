"""Test rows whose labels several runs contradict together, and whether the ranking survives without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports.mistakes.confident_learning import caution, doubts
from ftrun.reports.numbers import score
from ftrun.runs.typed import command
from ftrun.tasks.metrics.rescoring import Scored
from ftrun.tasks.scorer import PROBABILITIES

if TYPE_CHECKING:
    from ftrun.reports.study import Group, Study


def doubt_lines(group: Group) -> list[str]:
    """How many labels are in doubt by the mean probabilities of the runs, and the ranking without them.

    A run that learned too little contradicts right labels and is not asked. Nothing where no run has a
    probability for each label, as those of earlier versions.
    """
    runs = [each for study in group.ways for each in study.tried]
    answering = [each for each in runs if all(line.get(PROBABILITIES) for line in each.answered)]
    if not answering:
        return []
    able = [each for each in answering if not any(run.diagnosis.learned_too_little for run in each.runs)]
    if not able:
        return ["not looked for: every run learned too little to doubt a label"]
    known = [each.answered for each in able]
    same: dict[int, list[int]] = {}  # of repeated splits a row has several lines
    for at, row in enumerate(runs[0].tested_rows):
        same.setdefault(row, []).append(at)
    tests = [*same.values()]
    means = [mean_of([lines[at][PROBABILITIES] for lines in known for at in own]) for own in tests]
    found = {doubt.at for doubt in doubts([known[0][own[0]]["label"] for own in tests], means)}
    places = sorted(at for row in found for at in tests[row])
    by = f"by the mean probabilities of {counted(len(known), 'run')}"
    if len(known) < len(runs):
        by += (
            f" of {len(runs)} (the others {_why_not(len(runs) - len(answering), len(answering) - len(able))})"
        )
    rows = counted(group.items, "test row")
    if not places:
        return [f"none of {rows} has a label in doubt, {by}"]
    see = command("errors", able[0].row["run"])
    verb = "has a label" if len(found) == 1 else "have labels"
    first = f"{len(found):,} of {rows} {verb} in doubt, {by}; to see those of a run: {see}"
    lines = [first, *caution(len(found), group.items)]
    return [*lines, ranking_without(group, places)] if len(lines) == 1 else lines


def _why_not(unknown: int, unable: int) -> str:
    return " or ".join(["have none"] * (unknown > 0) + ["learned too little"] * (unable > 0))


def mean_of(found: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each label's probability; a label that is not named has probability 0."""
    names = dict.fromkeys(name for each in found for name in each)
    return {name: sum(each.get(name, 0.0) for each in found) / len(found) for name in names}


def ranking_without(group: Group, places: list[int]) -> str:
    """Each study's score without the rows at these places, and whether their order changes."""
    new = {study.name: score_without(study, places) for study in group.ways}
    before = sorted(group.ways, key=lambda study: -group.sign * study.score.value)
    after = sorted(before, key=lambda study: -group.sign * new[study.name])
    told = ", ".join(f"{study.name} {score(new[study.name], group.metric)}" for study in after)
    if len(before) == 1:
        return f"without them: {told} (with them {score(before[0].score.value, group.metric)})"
    same = [study.name for study in after] == [study.name for study in before]
    return f"without them the ranking {'is the same' if same else 'changes'}: {told}"


def score_without(study: Study, places: list[int]) -> float:
    """The mean score of a study's runs on the other rows."""
    import numpy

    scores = []
    for each in study.tried:
        columns = numpy.delete(each.scored.columns, places, axis=0)
        scores.append(Scored(columns, each.scored.finish).score)
    return sum(scores) / len(scores)
