"""Test rows whose labels several runs contradict together, and whether the ranking survives without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports.mistakes.confident_learning import caution, doubts
from ftrun.reports.numbers import cut, score
from ftrun.runs.typed import command
from ftrun.tasks.metrics.rescoring import Scored

if TYPE_CHECKING:
    from ftrun.reports.answers import Array, Probabilities
    from ftrun.reports.study import Group, Study


def doubt_lines(group: Group) -> list[str]:
    """How many labels are in doubt by the mean probabilities of the runs, and the ranking without them.

    A run that learned too little contradicts right labels and is not asked. Nothing where no run has a
    probability for each label, as those of earlier versions.
    """
    runs = [each for study in group.ways for each in study.tried]
    answering = [each for each in runs if each.answered.of_labels]
    if not answering:
        return []
    able = [each for each in answering if not any(run.diagnosis.learned_too_little for run in each.runs)]
    if not able:
        return ["not looked for: every run learned too little to doubt a label"]
    same: dict[int, list[int]] = {}  # of repeated splits a row has several lines
    for at, row in enumerate(runs[0].tested_rows):
        same.setdefault(row, []).append(at)
    tests = [*same.values()]
    means = means_of([each.answered.probabilities for each in able if each.answered.probabilities], tests)
    found = {doubt.at for doubt in doubts([able[0].labels[own[0]] for own in tests], means)}
    places = sorted(at for row in found for at in tests[row])
    by = f"by the mean probabilities of {counted(len(able), 'run')}"
    if len(able) < len(runs):
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


def means_of(known: list[Probabilities], tests: list[list[int]]) -> list[dict[str, float]]:
    """Of each test the mean over its lines, and over runs, of each label's probability."""
    import numpy

    names = {*known[0].names}
    if len(names) > 1 or any(each.names is not known[0].names for each in known):
        return _means_by_name(known, tests)
    (own,) = names
    sums: Array = numpy.zeros((len(tests), len(own)))
    number: Array = numpy.zeros(len(known[0].names), int)
    for test, places in enumerate(tests):
        number[places] = test
    for each in known:
        numpy.add.at(sums, number, each.values.reshape(len(number), len(own)))
    counts = len(known) * numpy.bincount(number)
    return [dict(zip(own, row, strict=True)) for row in (sums / counts[:, None]).tolist()]


def _means_by_name(known: list[Probabilities], tests: list[list[int]]) -> list[dict[str, float]]:
    """The same where not all rows name the same labels; one that is not named has probability 0."""
    sums: list[dict[str, float]] = [{} for _ in tests]
    for rows in (each.rows for each in known):
        for found, places in zip(sums, tests, strict=True):
            for name, value in (pair for at in places for pair in rows[at].items()):
                found[name] = found.get(name, 0.0) + value
    counts = [len(known) * len(places) for places in tests]
    return [
        {name: value / count for name, value in found.items()}
        for found, count in zip(sums, counts, strict=True)
    ]


def ranking_without(group: Group, places: list[int]) -> str:
    """Each study's score without the rows at these places, and whether their order changes."""
    new = {study.name: score_without(study, places) for study in group.ways}
    before = sorted(group.ways, key=lambda study: -group.sign * study.score.value)
    after = sorted(before, key=lambda study: -group.sign * new[study.name])
    told = ", ".join(cut([f"{study.name} {score(new[study.name], group.metric)}" for study in after]))
    if len(before) == 1:
        return f"without them: {told} (with them {score(before[0].score.value, group.metric)})"
    same = [study.name for study in after] == [study.name for study in before]
    return f"without them the ranking {'is the same' if same else 'changes'}: {told}"


def score_without(study: Study, places: list[int]) -> float:
    """The mean score of a study's runs on the other rows."""
    import numpy

    scores = []
    for each in study.tried:
        found = each.scored
        scores.append(Scored(numpy.delete(found.columns, places, axis=0), found.finish).score)
    return sum(scores) / len(scores)
