"""Score against the number of labels: who is ahead where, and how many times fewer pre-training needs."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from ftrun.reports.curves import at_least_times, crossings, times_fewer
from ftrun.reports.summary import score

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
        for place in crossings(points(one, group.sign), points(other, group.sign)):
            lines.append(f"{first} and {second} cross at about {place:,.0f} labels")
    if CONTROL in found:
        lines += [_factor(name, group) for name in found if name != CONTROL]
    return lines


def _factor(name: str, group: Group) -> str:
    found = curves(group)
    mine, control = (points(found[each], group.sign) for each in (name, CONTROL))
    top = score(group.sign * max(y for _, y in control), group.metric)
    if least := at_least_times(mine, control):
        return (
            f"{name} needs at least {least:.2g} times fewer labels than {CONTROL} for {top}: "
            "it is above that from the start"
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
    return " ".join(word for word in study.name.split() if not word.startswith("subset="))
