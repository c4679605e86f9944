"""Advice weighed by evidence: what the other studies of a report say of a setting to try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.reports.numbers import score, words

if TYPE_CHECKING:
    from ftrun.reports.diagnosing.remedies import Remedy
    from ftrun.reports.study import Group, Study

ABSENT = object()  # equals no setting


def weighed(remedies: list[Remedy], study: Study, group: Group) -> tuple[list[str], list[str]]:
    """The remedies to try, with the score of another study that did better so; and those that it refutes.

    One is refuted where the best of the studies that use it is not better than this one.
    """
    kept: list[str] = []
    refuted: list[str] = []
    for remedy in remedies:
        users = [other for other in group.ways if other is not study and _uses(other, remedy, study)]
        best = max(users, key=lambda other: group.sign * other.score.value, default=None)
        if best is None:
            kept.append(str(remedy))
            continue
        said = words({remedy.name: _value(best, remedy.name)})
        figure = score(best.score.value, group.metric)
        if group.sign * (best.score.value - study.score.value) > 0 and not best.untaught:
            kept.append(f"{said} ({figure} here)")
        else:
            refuted.append(f"{said} ({figure})")
    return list(dict.fromkeys(kept)), list(dict.fromkeys(refuted))


def _value(study: Study, name: str) -> Any:
    return study.flat_config.get(name)


def _uses(other: Study, remedy: Remedy, study: Study) -> bool:
    """Whether another study follows a remedy: the strategy on as many labels, or this setting alone."""
    theirs, ours = _value(other, remedy.name), _value(study, remedy.name)
    if theirs == ours:
        return False
    if remedy.name == "strategy":
        alike = other.config["task"].get("subset") == study.config["task"].get("subset")
        return alike and theirs == remedy.value
    if not _alike(other, study, remedy.name):
        return False
    if all(isinstance(value, int | float) for value in (theirs, ours, remedy.value)):
        return bool((theirs - ours) * (remedy.value - ours) > 0)
    return bool(remedy.said or remedy.value in ("auto", theirs))


def _alike(one: Study, other: Study, name: str) -> bool:
    """Whether studies agree in all settings but one, and those that an option's group has of its own."""
    ours, theirs = one.tried[0].row["settings"], other.tried[0].row["settings"]
    differing = (
        key for key in ours.keys() | theirs.keys() if ours.get(key, ABSENT) != theirs.get(key, ABSENT)
    )
    return all(key.partition(".")[0] == name or key == name for key in differing)
