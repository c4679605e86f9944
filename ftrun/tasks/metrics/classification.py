"""Classification metrics, as scikit-learn defines them; macro averages are over the classes that occur."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftrun.tasks.metrics.metric import CORRELATION, LOSS, Metric, named

SINGLE_LABEL = named(
    Metric("accuracy", "max", "%"),
    Metric("f1", "max", "%"),
    Metric("f1_weighted", "max", "%"),
    Metric("precision", "max", "%"),
    Metric("recall", "max", "%"),
    Metric("matthews_correlation", "max", ends=CORRELATION),
    LOSS,
)
TOP5 = named(Metric("top5_accuracy", "max", "%"))  # of images with more than five classes
MULTILABEL = named(
    Metric("micro_f1", "max", "%"),
    Metric("macro_f1", "max", "%"),
    Metric("subset_accuracy", "max", "%"),
    LOSS,
)
METRICS = SINGLE_LABEL | TOP5 | MULTILABEL


def single_label_scores(labels: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """Every metric of SINGLE_LABEL but the loss.

    Names are numbered once, as scikit-learn would sort and compare them again for every metric.
    """
    import numpy
    from sklearn.metrics import matthews_corrcoef, precision_recall_fscore_support

    names, numbers = numpy.unique([*labels, *answers], return_inverse=True)
    true, answered = numbers[: len(labels)], numbers[len(labels) :]
    precision, recall, f1, rows = precision_recall_fscore_support(true, answered, zero_division=0)
    return {
        "accuracy": float((true == answered).mean()),
        "f1": float(f1.mean()),
        "f1_weighted": float(numpy.average(f1, weights=rows)),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        # nothing to correlate where all is one label, of which scikit-learn warns
        "matthews_correlation": float(matthews_corrcoef(true, answered)) if len(names) > 1 else 0.0,
    }


def multilabel_scores(labels: Any, answers: Any) -> dict[str, float]:
    """Every metric of MULTILABEL but the loss, from zeros and ones, (rows, labels)."""
    from sklearn.metrics import f1_score

    return {
        "micro_f1": float(f1_score(labels, answers, average="micro", zero_division=0)),
        "macro_f1": float(f1_score(labels, answers, average="macro", zero_division=0)),
        "subset_accuracy": float((labels == answers).all(axis=1).mean()),
    }
