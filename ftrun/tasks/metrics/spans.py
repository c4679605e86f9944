"""Metrics of answers that are spans of a text: exact match and F1 of words, as SQuAD's script scores them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from ftrun.tasks.metrics.metric import LOSS, Metric, named

METRICS = named(Metric("f1", "max", "%"), Metric("exact_match", "max", "%"), LOSS)
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def scores(answers: Sequence[str], gold: Sequence[Sequence[str]], no_answer: bool) -> dict[str, float]:
    """Every metric but the loss; with `no_answer` also of the answerable and the impossible questions."""
    pairs = squad_scores(answers, gold)
    found = {"f1": mean([f1 for _, f1 in pairs]), "exact_match": mean([exact for exact, _ in pairs])}
    if not no_answer:
        return found
    for name, wanted in (("answerable", True), ("impossible", False)):
        own = [pair for pair, texts in zip(pairs, gold, strict=True) if bool(texts) == wanted]
        if own:
            found |= {f"f1_{name}": mean([f1 for _, f1 in own])}
            found |= {f"exact_match_{name}": mean([exact for exact, _ in own])}
    return found


def normalised(text: str) -> str:
    """Lower case without ASCII punctuation, then without English articles, blanks as one (Rajpurkar 2016)."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, gold: str) -> float:
    return float(normalised(answer) == normalised(gold))


def overlap(answer: str, gold: str) -> float:
    """F1 of the words that two answers share, as bags; where one is empty, whether both are."""
    ours, theirs = normalised(answer).split(), normalised(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    same = (Counter(ours) & Counter(theirs)).total()
    return 2 * same / (len(ours) + len(theirs))


def squad_scores(answers: Sequence[str], gold: Sequence[Sequence[str]]) -> list[tuple[float, float]]:
    """(exact match, F1) of each answer against the gold answer that suits it best.

    A question without a gold answer, or with none that is left after normalising, wants the empty answer
    (evaluation script of SQuAD 2.0, Rajpurkar et al. 2018).
    """
    found = []
    for answer, texts in zip(answers, gold, strict=True):
        options = [text for text in texts if normalised(text)] or [""]
        best = (max(score(answer, text) for text in options) for score in (exact_match, overlap))
        found.append((next(best), next(best)))
    return found


def mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
