"""The results of a comparison as sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports.numbers import score
from ftrun.reports.significance import items_needed
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from ftrun.reports.significance import Estimate
    from ftrun.reports.study import Group, Pair, Study

MOST = 10_000_000  # test examples that anybody could collect


def interval(found: Estimate, metric: str) -> str:
    """84.4 % (82.1 to 86.5)."""
    ends = (score(end, metric).removesuffix(" %") for end in (found.low, found.high))
    return f"{score(found.value, metric)} ({' to '.join(ends)})"


def sentence(pair: Pair, group: Group) -> str:
    """Which of two studies is better, or that it is undecided and how many examples would decide it."""
    better = group.sign * pair.found.value >= 0
    first, second = (pair.first, pair.second) if better else (pair.second, pair.first)
    size = f"difference {difference_words(pair.found, group.metric)}"
    where = f"on {counted(group.items, 'test example')}"
    if pair.apart:
        return f"{first.name} is better than {second.name} {where} ({size}, {chance(pair)})"
    return f"{first.name} and {second.name} do not differ significantly {where} ({size}){needed(pair, group)}"


def chance(pair: Pair) -> str:
    """The p-value of a pair, corrected for the number of tests: p = 0.012."""
    return "p < 0.001" if pair.corrected < 0.001 else f"p = {pair.corrected:.2g}"


def p_value_source(group: Group) -> str:
    """The tests that the p-values of the group's pairs come from."""
    return f"p-values: {'; '.join(dict.fromkeys(pair.test for pair in group.pairs))}"


def difference_words(found: Estimate, metric: str) -> str:
    """5.1 ± 2.0 points, with half the width of the interval."""
    factor, share = lookup(metric).factor, lookup(metric).is_share
    digits = ".1f" if share else ".3g"
    reach = factor * (found.high - found.low) / 2
    return f"{factor * abs(found.value):{digits}} ± {reach:{digits}}{' points' if share else ''}"


def needed(pair: Pair, group: Group) -> str:
    """The end of an undecided sentence: what would decide it."""
    count, tests = items_needed(pair.found, group.items), len(group.pairs)
    if count is None and pair.found.items_error < (pair.found.seeds_error or 0.0):
        return "; the seeds vary too much for a larger test set to decide, so more seeds are needed"
    if count == math.inf:
        return "; their scores are equal"
    if count is None or count > MOST:
        return "; the difference is too small to resolve"
    if count > group.items:
        return f"; about {rounded(count):,} would be needed to decide"
    if tests > 1 and pair.p < pair.corrected:
        return f"; p = {pair.p:.2g}, or {pair.corrected:.2g} corrected for {tests} tests"
    return f"; p = {pair.p:.2g}"


def rounded(count: float) -> int:
    """Rounded up to two figures."""
    unit = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / unit) * unit


def standard_error(study: Study, metric: str) -> str:
    """The sources of the interval's width: the finite test set and the seeds."""
    factor, unit = lookup(metric).factor, " points" if lookup(metric).is_share else ""
    if study.score.seeds_error is None:
        return f"{factor * study.score.items_error:.2g}{unit} from the test set (one seed)"
    items, seeds = factor * study.score.items_error, factor * study.score.seeds_error
    return f"{items:.2g}{unit} from the test set, {seeds:.2g}{unit} from the seeds"


def elbow(group: Group) -> tuple[list[Study], Study, str] | None:
    """Studies that differ in `rank` alone, the smallest that is as good as the best, and a sentence."""
    from ftrun.reports.study import tested

    ranked = sorted(
        (study for study in group.ways if isinstance(study.config.get("rank"), int)),
        key=lambda study: study.config["rank"],
    )
    ranks = [study.config["rank"] for study in ranked]
    seen = [each.diagnosis for study in ranked for each in study.tried]
    if all(each.untaught or each.lacking for each in seen):
        return None
    if len(ranks) < 3 or len(set(ranks)) < len(ranks) or len({_but_rank(study) for study in ranked}) > 1:
        return None
    best = max(ranked, key=lambda study: group.sign * study.score.value)
    pairs = tested([(best, study) for study in ranked if study is not best])
    apart = {id(pair.second) for pair in pairs if pair.apart}
    chosen = next(study for study in ranked if id(study) not in apart)
    rank, top = chosen.config["rank"], best.config["rank"]
    if chosen is best:
        why = (
            "the smallest rank scores best"
            if chosen is ranked[0]
            else "every smaller rank is significantly worse"
        )
        return ranked, chosen, f"rank {rank} is the elbow: {why}"
    found = next(pair for pair in pairs if pair.second is chosen)
    text = (
        f"rank {rank} is the elbow: the smallest that does not differ significantly from the best, rank {top}"
        f" (difference {difference_words(found.found, group.metric)}, corrected p = {found.corrected:.2g})"
    )
    return ranked, chosen, text


def _but_rank(study: Study) -> str:
    settings = study.tried[0].row["settings"]
    return repr(sorted((name, value) for name, value in settings.items() if name != "rank"))
