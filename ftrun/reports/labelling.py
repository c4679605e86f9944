"""Score against the number of labels: who is ahead where, and how many times fewer pre-training needs."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from ftrun.reports.curves import at_least_times, crossings, monotone, reaching, times_fewer
from ftrun.reports.significance import difference
from ftrun.reports.summary import score, words

if TYPE_CHECKING:
    from ftrun.reports.study import Group, Study

CONTROL = "scratch"
Points = list[tuple[float, float]]


def curves(group: Group) -> dict[str, list[Study]]:
    """The studies of each strategy by growing number of labels, where there are several numbers of them."""
    found: dict[str, list[Study]] = {}
    for study in group.studies:
        if study.facts["labels"] is not None:
            found.setdefault(_name(study), []).append(study)
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
    """(labels, score), turned so that more is better; of one seed, or the mean over all."""
    found = []
    for study in studies:
        if seed is None:
            value = study.score.value
        elif seed in study.runs.seeds:
            value = float(study.runs.observed[study.runs.seeds.index(seed)])
        else:
            continue
        found.append((study.facts["labels"] or 0.0, sign * value))
    return found


def label_words(group: Group) -> list[str]:
    """Crossovers, and the factor between each strategy and training from scratch, as sentences."""
    found = curves(group)
    lines = []
    for (first, one), (second, other) in combinations(found.items(), 2):
        clear = crossovers(one, other, group.sign)
        lines += [f"{first} and {second} cross at about {place:,.0f} labels" for place in clear]
        if not clear and crossings(points(one, group.sign), points(other, group.sign)):
            lines.append(f"{first} and {second} cross within what chance explains")
    if CONTROL in found:
        for name in found:
            if name != CONTROL:
                lines += [_factor(name, group), *_reached(name, group)]
    return lines


def crossovers(one: list[Study], other: list[Study], sign: int) -> list[float]:
    """The labels at which two curves cross, where each is ahead beyond noise on its side of it."""
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


def _reached(name: str, group: Group) -> list[str]:
    """At how many labels the control has what a strategy has with each of its numbers, in one sentence."""
    found = curves(group)
    control = monotone(points(found[CONTROL], group.sign))
    said = []
    for labels, level in monotone(points(found[name], group.sign)):
        there = reaching(control, level)
        where = f"more than {control[-1][0]:,.0f}" if there is None else f"about {there:,.0f}"
        if there is None or there > control[0][0]:
            said.append(f"{where} for its {score(group.sign * level, group.metric)} with {labels:,.0f}")
    return [f"labels {CONTROL} needs to be as good as {name}: {', '.join(said)}"] if said else []


def _factor(name: str, group: Group) -> str:
    found = curves(group)
    mine, control = (points(found[each], group.sign) for each in (name, CONTROL))
    top = score(group.sign * max(y for _, y in control), group.metric)
    if least := at_least_times(mine, control):
        labels, first = monotone(mine)[0]
        return (
            f"{name} needs at least {least:.2g} times fewer labels than {CONTROL} for"
            f" {score(group.sign * first, group.metric)}: it has that with {labels:,.0f}, and {CONTROL} has"
            f" no more with {control[-1][0]:,.0f}"
        )
    factor = times_fewer(mine, control)
    if factor is None:
        return f"{name} does not reach {top}, the best of {CONTROL}, with these labels"
    seeds = set.intersection(*(set(study.runs.seeds) for study in [*found[name], *found[CONTROL]]))
    each = [
        times_fewer(points(found[name], group.sign, seed), points(found[CONTROL], group.sign, seed))
        for seed in sorted(seeds)
    ]
    known = [value for value in each if value is not None]
    spread = f", {min(known):.2g} to {max(known):.2g} over seeds" if len(known) > 1 else ""
    return f"{name} needs {factor:.2g} times fewer labels than {CONTROL} for {top}{spread}"


def _name(study: Study) -> str:
    return " ".join(study.name.replace(words({"subset": study.config["task"].get("subset")}), "").split())
