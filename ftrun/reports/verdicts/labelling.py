"""Score against the number of labels: which strategy leads where, and how many labels pre-training saves."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from ftrun.reports.numbers import MOST, cut, score
from ftrun.reports.statistics.curves import at_least_times, crossings, monotone, reaching, times_fewer
from ftrun.reports.statistics.significance import difference

if TYPE_CHECKING:
    from ftrun.reports.study import Group, Study

CONTROL = "scratch"
Points = list[tuple[float, float]]
Curve = tuple[str, "list[Study]"]  # a way and its studies


def curves(group: Group) -> dict[str, list[Study]]:
    """Each strategy's studies by growing number of labels, where it has at least two such numbers."""
    found: dict[str, list[Study]] = {}
    for study in group.studies:
        if study.facts["labels"] is not None:
            found.setdefault(study.way, []).append(study)
    for studies in found.values():
        studies.sort(key=lambda study: study.facts["labels"] or 0)
    rising = {
        name: studies for name, studies in found.items() if len({s.facts["labels"] for s in studies}) > 1
    }
    return {
        name: studies
        for name, studies in rising.items()
        if len({s.facts["labels"] for s in studies}) == len(studies)
    }


def points(studies: list[Study], sign: int, seed: int | None = None) -> Points:
    """(labels, score) with the sign that makes more better; of one seed, or the mean over all."""
    found = []
    for study in studies:
        if seed is None:
            value = study.score.value
        elif seed in study.runs.places:
            value = float(study.runs.observed[study.runs.places[seed]])
        else:
            continue
        found.append((study.facts["labels"] or 0.0, sign * value))
    return found


def label_lines(group: Group) -> list[str]:
    """Sentences on crossovers, and on the labels each strategy saves against training from scratch."""
    found = curves(group)
    lines = []
    for (first, one), (second, other) in _pairs(found, group):
        clear = crossovers(one, other, group.sign)
        lines += [f"the curves of {first} and {second} cross at about {place:,.0f} labels" for place in clear]
        if not clear and crossings(points(one, group.sign), points(other, group.sign)):
            lines.append(f"the curves of {first} and {second} cross, but within the margin of error")
    if CONTROL in found:
        for name in found:
            if name != CONTROL:
                lines += [_factor(name, found, group), *_reached(name, found, group)]
    return cut(lines)


def _pairs(found: dict[str, list[Study]], group: Group) -> list[tuple[Curve, Curve]]:
    """All pairs of curves; of too many the best curve, by its last point, and each other one."""
    ways = [*found.items()]
    if len(ways) * (len(ways) - 1) // 2 <= MOST:
        return [*combinations(ways, 2)]
    best = max(ways, key=lambda way: group.sign * way[1][-1].score.value)
    return [(best, way) for way in ways if way is not best]


def crossovers(one: list[Study], other: list[Study], sign: int) -> list[float]:
    """The numbers of labels at which two curves cross, where each leads significantly on one side."""
    theirs = {study.facts["labels"]: study for study in other}
    ahead: list[tuple[float, int]] = []
    for study in one:
        labels = study.facts["labels"]
        if labels is not None and labels in theirs:
            found = difference(study.runs, theirs[labels].runs)
            ahead.append((labels, (found.low > 0) - (found.high < 0)))

    def turned(place: float) -> bool:
        before, after = ({side for at, side in ahead if (at < place) == left} for left in (True, False))
        return (1 in before and -1 in after) or (-1 in before and 1 in after)

    return [place for place in crossings(points(one, sign), points(other, sign)) if turned(place)]


def _reached(name: str, found: dict[str, list[Study]], group: Group) -> list[str]:
    """How many labels the control needs to match a strategy at each of its numbers, in one sentence."""
    control = monotone(points(found[CONTROL], group.sign))
    needs = []
    for labels, level in monotone(points(found[name], group.sign)):
        there = reaching(control, level)
        where = f"more than {control[-1][0]:,.0f}" if there is None else f"about {there:,.0f}"
        reached = score(group.sign * level, group.metric)
        if there is None or there > control[0][0]:
            needs.append(f"{where} to match {name} with {labels:,.0f} ({reached})")
    return [f"labels that {CONTROL} needs: {', '.join(needs)}"] if needs else []


def _factor(name: str, found: dict[str, list[Study]], group: Group) -> str:
    mine, control = (points(found[each], group.sign) for each in (name, CONTROL))
    top = score(group.sign * max(y for _, y in control), group.metric)
    if least := at_least_times(mine, control):
        labels, first = monotone(mine)[0]
        return (
            f"{name} needs at least {least:.2g} times fewer labels than {CONTROL}: it scores"
            f" {score(group.sign * first, group.metric)} with {labels:,.0f}, which {CONTROL} does not exceed"
            f" with {control[-1][0]:,.0f}"
        )
    factor = times_fewer(mine, control)
    if factor is None:
        return f"{name} does not reach {top}, the best score of {CONTROL}, at any of these numbers of labels"
    seeds = set.intersection(*(set(study.runs.seeds) for study in [*found[name], *found[CONTROL]]))
    each = [
        times_fewer(points(found[name], group.sign, seed), points(found[CONTROL], group.sign, seed))
        for seed in sorted(seeds)
    ]
    known = [value for value in each if value is not None]
    spread = f" ({min(known):.2g} to {max(known):.2g} across seeds)" if len(known) > 1 else ""
    return f"{name} needs {factor:.2g} times fewer labels than {CONTROL} to score {top}{spread}"
