"""The verdict of a comparison: which way to use, in one sentence, and what stands beside it in four more."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports.numbers import points, share
from ftrun.reports.rare import hidden_words
from ftrun.reports.statistics.power import measured_difference
from ftrun.reports.statistics.significance import difference
from ftrun.reports.verdicts.beside import beside, like_a_constant, strongest, train_nothing
from ftrun.reports.verdicts.labelling import curves
from ftrun.reports.verdicts.sentences import ahead, chance, names_of, score_of, with_interval
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from ftrun.reports.study import Group, Pair, Study

CLOSE = 0.01  # one point: the region of practical equivalence of Benavoli et al. 2017
CHEAPER = 0.5  # of the trained weights, at most, for a way that scores as well to be the one to use


def verdict(group: Group) -> list[str]:
    """At most five lines: what to use, what more labels would bring, and what these runs cannot say.

    Ways that learned nothing are not judged: their settings were wrong, not the way. A baseline with the
    better score is the one to use, also within noise, as the cheaper of two ways is. The frozen features are
    no rival of a head that was solved for on them: it is the same regression, as a run that can be used.
    """
    taught = [study for study in group.ways if not study.untaught]
    if not taught:
        rival = strongest(group.best, group)
        return [
            f"No verdict: {names_of(group.ways)} learned nothing; the settings to try are below"
            f"{beside(rival, group.best, group) if rival is not None else '.'}"
        ]
    best = max(taught, key=lambda study: (study.facts["labels"] or 0, group.sign * study.score.value))
    like = [study for study in taught if study.facts["labels"] == best.facts["labels"]]
    chosen = _cheapest(best, like, group)
    rival = strongest(best, group, chosen)
    if blind := like_a_constant(best, rival, group):
        lines = [blind]
    elif rival is not None and ahead(rival, best, group):
        lines = [train_nothing(rival, best, group)]
    else:
        lines = [_use(chosen, best, like, group) + beside(rival, best, group)]
    if said := _hidden(best, group):
        lines.append(said)
    if chosen.way in (found := curves(group)):
        lines.append(_twice(found[chosen.way], group))
    if blank := [study for study in group.ways if study.untaught]:
        verb = "is" if len(blank) == 1 else "are"
        lines.append(
            f"{names_of(blank)} learned nothing and {verb} not judged; the settings to try are below."
        )
    if short := [study for study in like if any(run.diagnosis.lacking for run in study.trained)]:
        lines.append(f"{names_of(short)} had not learned enough yet; more training may change the verdict.")
    size = "" if blind else _smallest(like, group)  # ways that answer alike tell no size
    return [*lines, *_seeds(like), *([size] if size else [])][:5]


def scope(group: Group) -> str:
    """What a verdict is about: its networks, training rows and optimizer steps a run, " · MiniLM · 400 …"."""
    runs = [run for study in group.ways for tried in study.tried for run in tried.runs]
    models = list(dict.fromkeys(str(run.row["model"]) for run in runs))
    parts = [", ".join(models) if len(models) <= 3 else f"{len(models)} models"]
    for noun, values in (
        ("training row", {run.row["train_rows"] for run in runs}),
        ("step", {run.result.get("steps") for run in runs}),
    ):
        if known := sorted(value for value in values if value is not None):
            low, high = known[0], known[-1]
            parts.append(counted(high, noun) if low == high else f"{low:,} to {counted(high, noun)}")
    return "".join(f" · {part}" for part in parts if part)


def _cheapest(best: Study, like: list[Study], group: Group) -> Study:
    """Of the ways as good as the best, the one with the fewest trained weights, if these are far fewer."""
    equal = [
        study
        for study in like
        if study is best or (_level(best, study, group) and not _apart(best, study, group))
    ]
    weights = [(study.facts["trained_parameters"], study) for study in equal]
    known = [(count, study) for count, study in weights if count is not None]
    most = best.facts["trained_parameters"]
    if most is None or not known:
        return best
    least, chosen = min(known, key=lambda pair: (pair[0], -group.sign * pair[1].score.value))
    return chosen if least <= CHEAPER * most else best


def _level(best: Study, study: Study, group: Group) -> bool:
    """Whether a score is within a point of the best, or within a hundredth of one that is no share."""
    margin = CLOSE if lookup(group.metric).is_share else CLOSE * abs(best.score.value)
    return group.sign * (best.score.value - study.score.value) <= margin


def _use(chosen: Study, best: Study, like: list[Study], group: Group) -> str:
    text = f"Use {chosen.name} ({with_interval(chosen, group)})"
    others = [study for study in like if study is not chosen]
    if not others:
        return f"{text}: it is the only way that was tried"
    alike = [study for study in others if not _apart(best, study, group)]
    if chosen is not best:
        return f"{text}: as good as {best.name} within noise{_saved(chosen, [best])}"
    level = [study for study in alike if _level(best, study, group)]
    if alike and level == alike and (saved := _saved(best, alike)):
        return f"{text}: as good as {names_of(alike)} within noise{saved}"
    if not alike:
        nearest = max(others, key=lambda study: group.sign * study.score.value)
        pair = group.pair(best, nearest)
        known = f", {chance(pair)}" if pair else ""
        if len(others) == 1:
            return f"{text}: better than {nearest.name} ({score_of(nearest, group)}{known})"
        return (
            f"{text}: better than every other way (next: {nearest.name}, {score_of(nearest, group)}{known})"
        )
    beaten = [study for study in others if _apart(best, study, group)]
    than = f", better than {names_of(beaten)}" if beaten else ""
    return f"{text}: the best score{than}, but {names_of(alike)} may be as good"


def _saved(chosen: Study, others: list[Study]) -> str:
    """Of how many of their trained weights it does with; empty where it is not far fewer than each has."""
    mine = chosen.facts["trained_parameters"]
    theirs = [study.facts["trained_parameters"] for study in others]
    known = [count for count in theirs if count]
    if mine is None or len(known) < len(theirs) or mine > CHEAPER * min(known):
        return ""
    return f" at {share(mine / min(known))} of the trained weights"


def _twice(studies: list[Study], group: Group) -> str:
    """What twice the labels would bring, from the last step of the measured curve."""
    before, last = studies[-2:]
    times = math.log2((last.facts["labels"] or 1) / (before.facts["labels"] or 1))
    found = difference(last.runs, before.runs)
    gain, low, high = (group.sign * value / times for value in (found.value, found.low, found.high))
    low, high = min(low, high), max(low, high)
    metric = lookup(group.metric)
    unit, form = (" points", ".1f") if metric.is_share else ("", ".3g")
    figures = f"{metric.factor * low:{form}} to {metric.factor * high:{form}}"
    step = f"by the step from {before.facts['labels']:,.0f} to {last.facts['labels']:,.0f}"
    if low <= 0:
        return f"Twice the labels may bring nothing ({figures}{unit}, {step})."
    return f"Twice the labels would bring about {metric.factor * gain:{form}}{unit} ({figures}, {step})."


def _hidden(best: Study, group: Group) -> str:
    """That the metric hardly counts rare labels, where it is so and the runs were not told to."""
    labels = best.tried[0].labels
    if not all(isinstance(label, str) for label in labels):
        return ""
    said = hidden_words(group.metric, Counter(labels), best.config["task"])
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _seeds(like: list[Study]) -> list[str]:
    """What these runs cannot say of other seeds."""
    lines = []
    counts = [len(study.runs.seeds) for study in like]
    single = [s for s, count in zip(like, counts, strict=True) if count == 1 and not s.runs.fixed]
    if single and len(single) == len([study for study in like if not study.runs.fixed]):
        each, what = (" each", "order") if len(like) > 1 else ("", "score")
        lines.append(f"One seed{each}: another may change the {what}: seed=0,1,2.")
    elif single:
        verb = "has" if len(single) == 1 else "have"
        lines.append(f"{names_of(single)} {verb} one seed; its spread is taken to be that of the others.")
    return lines


def _smallest(like: list[Study], group: Group) -> str:
    """The smallest difference that these runs can show, where they show none."""
    tests = len(group.pairs)
    unclear = tests and not any(pair.apart for pair in group.pairs if not _baseline(pair))
    if len(like) > 1 and unclear and group.items > 1:
        seeds = min(len(study.runs.seeds) for study in like)
        pairs = [pair.found for pair in group.pairs if not _baseline(pair)]
        least = statistics.median(measured_difference(found, tests) for found in pairs)
        size = f"{counted(group.items, 'test row')} and {counted(seeds, 'seed')}"
        if least:
            told = points(least, group.metric)
            return f"With {size}, differences below about {told} cannot be told apart."
    return ""


def _apart(first: Study, second: Study, group: Group) -> bool:
    pair = group.pair(first, second)
    return pair is not None and pair.apart


def _baseline(pair: Pair) -> bool:
    return pair.first.baseline or pair.second.baseline
