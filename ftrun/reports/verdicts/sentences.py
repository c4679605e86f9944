"""The results of a comparison as sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports.numbers import score
from ftrun.reports.statistics.power import SEED_SPREAD, items_needed
from ftrun.reports.statistics.significance import ALPHA, quantile
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from ftrun.reports.statistics.significance import Estimate
    from ftrun.reports.study import Group, Pair, Study

MOST = 10_000_000  # test examples that anybody could collect
FEW = 10  # degrees of freedom below which an interval is wider than its standard error suggests
FEWEST = 3  # and below which it says more of the number of seeds than of the ways


def interval(found: Estimate, metric: str) -> str:
    """84.4 % (82.1 to 86.5); of what is not defined there is none, such as a constant's correlation."""
    if found.low == found.high:
        return score(found.value, metric)
    ends = (score(end, metric).removesuffix(" %") for end in (found.low, found.high))
    return f"{score(found.value, metric)} ({' to '.join(ends)})"


def sentence(pair: Pair, group: Group) -> str:
    """Which of two studies is better, or that it is undecided and how many examples would decide it."""
    better = group.sign * pair.found.value >= 0
    first, second = (pair.first, pair.second) if better else (pair.second, pair.first)
    size = f"difference {difference_words(pair.found, group.metric)}"
    where = f"on {counted(group.items, 'test example')}"
    if pair.apart:
        names = [
            f"the run of {study.name}" if pair.of_runs and not study.runs.fixed else study.name
            for study in (first, second)
        ]
        verb = "are" if first.baseline and first.name.endswith("s") else "is"
        return f"{names[0]} {verb} better than {names[1]} {where} ({size}, {chance(pair)})"
    return f"{first.name} and {second.name} do not differ significantly {where} ({size}){needed(pair, group)}"


def score_of(study: Study, group: Group) -> str:
    return score(study.score.value, group.metric)


def with_interval(study: Study, group: Group) -> str:
    """84.1 %, 82.0 to 86.1."""
    low, high = (score(end, group.metric) for end in (study.score.low, study.score.high))
    return f"{score_of(study, group)}, {low.removesuffix(' %')} to {high.removesuffix(' %')}"


def names_of(studies: list[Study]) -> str:
    names = [study.name for study in studies]
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more"]
    if any("," in name for name in names):  # "full, 400 rows and lora, 400 rows" is hard to read
        return "; ".join(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def ahead(first: Study, second: Study, group: Group) -> bool:
    return group.sign * (first.score.value - second.score.value) > 0


def chance(pair: Pair) -> str:
    """The p-value of a pair, corrected for the number of tests: p = 0.012."""
    return "p < 0.001" if pair.corrected < 0.001 else f"p = {pair.corrected:.2g}"


def p_value_source(group: Group) -> str:
    """The tests that the p-values of the group's pairs come from, and what they leave open."""
    said = f"p-values: {'; '.join(dict.fromkeys(pair.test for pair in group.pairs))}"
    if any(pair.of_runs for pair in group.pairs):
        return said + one_seed(group.metric)
    ways = {id(study): study for pair in group.pairs for study in (pair.first, pair.second)}
    trained = [study for study in ways.values() if not study.runs.fixed]
    lone = [study.name for study in trained if len(study.runs.seeds) == 1]
    if len(lone) == len(trained):
        return f"{said}; each way has one seed, so that what another changes is not in them"
    return f"{said}; the spread over seeds of {', '.join(lone)} is that of the others" if lone else said


def one_seed(metric: str) -> str:
    """What single runs leave open, with the spread that `SEED_SPREAD` was measured as."""
    known = f" (by a standard deviation of {100 * SEED_SPREAD:.0f} point on 2,000 rows of SST-2)"
    return (
        "; with one seed each they compare these runs and not their strategies, because another seed changes"
        f" a score too{known if metric == 'accuracy' else ''}: run seed=0,1,2"
    )


def difference_words(found: Estimate, metric: str) -> str:
    """5.1 ± 2.0 points, with half the width of the interval."""
    factor, share = lookup(metric).factor, lookup(metric).is_share
    digits = ".1f" if share else ".3g"
    reach = factor * (found.high - found.low) / 2
    return f"{factor * abs(found.value):{digits}} ± {reach:{digits}}{' points' if share else ''}"


def needed(pair: Pair, group: Group) -> str:
    """The end of an undecided sentence: what would decide it."""
    tests = len(group.pairs)
    if tests > 1 and pair.p < ALPHA:  # only for having looked that often is it undecided
        return f"; p = {pair.p:.2g}, or {pair.corrected:.2g} corrected for {tests} tests"
    if pair.found.seeds_error is not None and pair.found.unsure_error and pair.found.freedom < FEWEST:
        return "; as few seeds hardly tell their own spread, more seeds are needed"
    count = items_needed(pair.found, group.items, tests)
    if count is None and pair.found.items_error < (pair.found.seeds_error or 0.0):
        return "; the seeds vary too much for a larger test set to decide, so more seeds are needed"
    if count == math.inf:
        return "; their scores are equal"
    if count is None:
        splits = (pair.found.split_error or 0.0) > (pair.found.seeds_error or 0.0)
        which = " and ".join(pair.first.tried[0].tests) if splits else "seeds"
        return f"; the difference is too small to resolve with these {which}"
    if count > MOST:
        return "; the difference is too small to resolve"
    if count > group.items:
        return f"; about {rounded(count):,} would be needed to decide a difference of this size"
    return f"; p = {pair.p:.2g}"


def rounded(count: float) -> int:
    """Rounded up to two figures."""
    unit = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / unit) * unit


def standard_error(study: Study, metric: str) -> str:
    """The sources of the interval's width: the finite test set, the seeds, and the split into folds."""
    factor, unit = lookup(metric).factor, " points" if lookup(metric).is_share else ""
    found = study.score
    said = f"{factor * found.items_error:.2g}{unit} from the test set"
    if found.seeds_error is not None:
        said += f", {factor * found.seeds_error:.2g}{unit} more from the seeds"
    if found.split_error is not None:
        said += f", {factor * found.split_error:.2g}{unit} from the split"
    if found.freedom < FEW:
        degrees, reach = f"{found.freedom:.2g}", quantile(found.freedom)
        plural = "" if degrees == "1" else "s"
        said += f"; with {degrees} degree{plural} of freedom the interval reaches {reach:.2g} times as far"
    known = found.seeds_error is not None or found.split_error is not None
    return said if known else f"{said} (one seed, so that of the seeds is unknown)"


def elbow(group: Group) -> tuple[list[Study], Study, str] | None:
    """Studies that differ in `rank` alone, the smallest that is as good as the best, and a sentence."""
    from ftrun.reports.study import tested

    ranked = sorted(
        (study for study in group.ways if isinstance(study.config.get("rank"), int)),
        key=lambda study: study.config["rank"],
    )
    ranks = [study.config["rank"] for study in ranked]
    seen = [each.diagnosis for study in ranked for each in study.tried]
    if all(each.learned_too_little for each in seen):
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
