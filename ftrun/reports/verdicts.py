"""The findings of a comparison as sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ftrun.reports.significance import items_needed
from ftrun.reports.summary import PERCENT, score

if TYPE_CHECKING:
    from ftrun.reports.significance import Estimate
    from ftrun.reports.study import Group, Pair, Study

MOST = 10_000_000  # examples; more is as good as never


def interval(found: Estimate, metric: str) -> str:
    """84.4 % (82.1 to 86.5)."""
    ends = (score(end, metric).removesuffix(" %") for end in (found.low, found.high))
    return f"{score(found.value, metric)} ({' to '.join(ends)})"


def sentence(pair: Pair, group: Group) -> str:
    """Which of two is better, or that they cannot be told apart and how many examples would tell."""
    factor = 100 if group.metric in PERCENT else 1
    digits = ".1f" if factor == 100 else ".3g"
    better = group.sign * pair.found.value >= 0
    first, second = (pair.first, pair.second) if better else (pair.second, pair.first)
    reach = factor * (pair.found.high - pair.found.low) / 2
    size = f"difference {factor * abs(pair.found.value):{digits}} ± {reach:{digits}}"
    if pair.apart:
        chance = "p < 0.001" if pair.corrected < 0.001 else f"p = {pair.corrected:.2g}"
        return (
            f"{first.name} is better than {second.name} on {group.items:,} examples ({size}, {chance}); "
            f"{pair.test}"
        )
    return (
        f"{first.name} and {second.name} cannot be told apart on {group.items:,} examples ({size})"
        f"{needed(pair, group)}"
    )


def needed(pair: Pair, group: Group) -> str:
    """The end of such a sentence: what would decide it."""
    count = items_needed(pair.found, group.items)
    if count is None:
        return "; the seeds differ too much for any number of examples, more seeds are needed"
    if count == math.inf:
        return "; they score the same"
    if count > MOST:
        return "; no test set that could be had would be enough"
    if count <= group.items:
        return f"; p = {pair.p:.2g} alone, {pair.corrected:.2g} among {len(group.pairs)} tests"
    return f"; about {rounded(count):,} would be needed"


def rounded(count: float) -> int:
    """To two figures, upwards."""
    unit = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / unit) * unit


def chance(study: Study, metric: str) -> str:
    """Where the width of the interval comes from."""
    factor = 100 if metric in PERCENT else 1
    if study.score.seeds_error is None:
        return f"{factor * study.score.items_error:.2g} from the test set, one seed"
    items, seeds = factor * study.score.items_error, factor * study.score.seeds_error
    return f"{items:.2g} from the test set, {seeds:.2g} from seeds"


def elbow(group: Group) -> tuple[list[Study], Study, str] | None:
    """Studies that differ in `rank` alone, the smallest that is not told from the best, and the sentence."""
    from ftrun.reports.study import tested

    ranked = sorted(
        (study for study in group.studies if isinstance(study.config.get("rank"), int)),
        key=lambda study: study.config["rank"],
    )
    ranks = [study.config["rank"] for study in ranked]
    if all(each.diagnosis.untaught for study in ranked for each in study.tried):
        return None
    if len(ranks) < 3 or len(set(ranks)) < len(ranks) or len({_but_rank(study) for study in ranked}) > 1:
        return None
    best = max(ranked, key=lambda study: group.sign * study.score.value)
    pairs = tested([(best, study) for study in ranked if study is not best])
    apart = {id(pair.second) for pair in pairs if pair.apart}
    chosen = next(study for study in ranked if id(study) not in apart)
    rank, top = chosen.config["rank"], best.config["rank"]
    if chosen is best:
        why = "the smallest scores best" if chosen is ranked[0] else "every smaller rank scores worse"
        return ranked, chosen, f"rank {rank} is the elbow: {why}"
    found = next(pair for pair in pairs if pair.second is chosen)
    factor = 100 if group.metric in PERCENT else 1
    text = (
        f"rank {rank} is the elbow: the smallest that cannot be told apart from the best, rank {top} "
        f"(difference {factor * abs(found.found.value):.2g}, corrected p = {found.corrected:.2g})"
    )
    return ranked, chosen, text


def _but_rank(study: Study) -> str:
    settings = study.tried[0].row["settings"]
    return repr(sorted((name, value) for name, value in settings.items() if name != "rank"))
