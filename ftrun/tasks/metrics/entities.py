"""Metrics of named entities, which count where type, first and last word are all correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ftrun.data.entity_tags import entities
from ftrun.tasks.metrics.metric import LOSS, Metric, named

METRICS = named(
    Metric("f1", "max", "%"),
    Metric("precision", "max", "%"),
    Metric("recall", "max", "%"),
    Metric("accuracy", "max", "%"),  # of words
    LOSS,
)


def tag_scores(labels: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Every metric but the loss, and the F1 of each type of entity: f1_person."""
    by_type = entity_scores(labels, answers)
    overall = by_type.pop("")
    pairs = [
        pair for one, other in zip(labels, answers, strict=True) for pair in zip(one, other, strict=True)
    ]
    return {
        **{name: overall[name] for name in ("f1", "precision", "recall")},
        "accuracy": sum(one == other for one, other in pairs) / max(1, len(pairs)),
        **{f"f1_{kind}": found["f1"] for kind, found in by_type.items() if kind},
    }


def entity_scores(
    given: Sequence[Sequence[str]], answered: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of each type, in alphabetical order, and over all entities under "" (micro).

    An entity is correct when its type, first and last word are (Tjong Kim Sang & De Meulder 2003); with
    nothing to divide by, a score is 0. `entities` counts those given.
    """
    right, wanted, answers = Counter[str](), Counter[str](), Counter[str]()
    for theirs, ours in zip(given, answered, strict=True):
        truth, prediction = set(entities(theirs)), set(entities(ours))
        for counter, group in ((right, truth & prediction), (wanted, truth), (answers, prediction)):
            counter.update(kind for kind, _, _ in group)
    overall = {"": scores(right.total(), wanted.total(), answers.total())}
    kinds = sorted(wanted | answers)
    return overall | {kind: scores(right[kind], wanted[kind], answers[kind]) for kind in kinds}


def scores(right: int, given: int, answered: int) -> dict[str, float]:
    return {
        "precision": right / answered if answered else 0.0,
        "recall": right / given if given else 0.0,
        "f1": 2 * right / (given + answered) if given + answered else 0.0,
        "entities": given,
    }
