"""What costs nothing beside the ways of training: whether a baseline is the one to use, or nothing is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.data.baselines import ALWAYS, FEATURES_OF, NAMES
from ftrun.reports.statistics.seeds import Family
from ftrun.reports.statistics.significance import ALPHA
from ftrun.reports.study import compare
from ftrun.reports.verdicts.sentences import ahead, chance, score_of, with_interval

if TYPE_CHECKING:
    from ftrun.reports.study import Group, Study


def strongest(best: Study, group: Group, chosen: Study | None = None) -> Study | None:
    """The best baseline of as many labels, but for the regression that the chosen way is itself."""
    others = [
        study for study in _rivals(best, group) if chosen is None or not _same_regression(study, chosen)
    ]
    return max(others, key=lambda study: group.sign * study.score.value, default=None)


def _same_regression(rival: Study, chosen: Study) -> bool:
    """Whether one is the frozen features of a network, and the other a head solved for on these."""
    solved = any(run.row.get("l2") is not None for run in chosen.trained)
    reads = _is(rival, FEATURES_OF)
    return solved and reads and rival.config["model"] == chosen.config["model"]


def like_a_constant(best: Study, rival: Study | None, group: Group) -> str:
    """The verdict where neither training nor a baseline is told apart from a constant answer."""
    constant, words = next(
        (
            (study, words)
            for study in _rivals(best, group)
            for name, words in ALWAYS.items()
            if _is(study, name)
        ),
        (None, ""),
    )
    if constant is None or rival is None or (pair := group.pair(best, constant)) is None:
        return ""
    if pair.apart and ahead(best, constant, group):
        return ""
    plain = compare(rival, constant, Family([])) if rival is not constant else None
    if plain is not None and plain.p < ALPHA and ahead(rival, constant, group):
        return ""
    top = rival if ahead(rival, best, group) else best
    known = "" if top is constant else f"; the best score, of {top.name}, is {with_interval(top, group)}"
    return f"No verdict: nothing here is told apart from {words} ({score_of(constant, group)}){known}."


def _rivals(best: Study, group: Group) -> list[Study]:
    """The baselines that had as many labels."""
    alike = [study for study in group.studies if study.facts["labels"] == best.facts["labels"]]
    return [study for study in alike if study.baseline]


def _is(study: Study, baseline: str) -> bool:
    return bool(study.tried[0].row["strategy"] == NAMES[baseline])


def train_nothing(rival: Study, best: Study, group: Group) -> str:
    """The verdict where a baseline is ahead of every way of training."""
    pair = group.pair(best, rival)
    known = f", {chance(pair)}" if pair else ""
    return (
        f"Use {rival.name} ({with_interval(rival, group)}): no way of training scores higher here; the best, "
        f"{best.name}, has {score_of(best, group)}{known}."
    )


def beside(rival: Study | None, best: Study, group: Group) -> str:
    """The end of the first sentence: what costs nothing, and whether training beats it."""
    if rival is None:
        return "."
    verb = "have" if rival.name.endswith("s") else "has"
    pair = group.pair(best, rival)
    doubt = "" if pair is None or pair.apart else f", not significantly less ({chance(pair)})"
    doubt = f"{doubt}, so training may not be worth it" if doubt else ""
    return f"; {rival.name} {verb} {score_of(rival, group)}{doubt}."
