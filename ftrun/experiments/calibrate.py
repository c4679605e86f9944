"""Calibration of a finished run: a temperature and thresholds fitted on its validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import torch

from ftrun.errors import ConfigError, DataError, counted
from ftrun.experiments.inference import FinishedRun
from ftrun.models.recalibration import Recalibration, keep, recalibration_of
from ftrun.reports.diagnosing.calibration import calibration
from ftrun.runs.files import why_unwritable
from ftrun.tasks.metrics.classification import multilabel_scores
from ftrun.tasks.multilabel import MultilabelScorer
from ftrun.tasks.parts.labelled import ClassScorer
from ftrun.tasks.parts.temperature import (
    all_right,
    decisions,
    f1_at,
    fit_temperature,
    fit_threshold,
    log_probabilities,
    mean_nll,
)
from ftrun.training.evaluate import batches_through, ordered

if TYPE_CHECKING:
    from ftrun.runs.run import Run
    from ftrun.tasks.data import TaskData

Array = Any  # numpy.ndarray
RECORD = "calibration.json"
SPLITS = ("validation", "test")
LEAST = 20  # validation rows; with fewer, one row more or less would move the temperature by a lot


@dataclass
class Seen:
    """The logits of a split, (rows, classes), and its labels: (rows,), or 0 and 1, (rows, labels)."""

    logits: Array
    labels: Array

    def choices(self) -> tuple[Array, Array]:
        """Logits and labels of single choices, (n, classes) and (n,)."""
        return (self.logits, self.labels) if self.labels.ndim == 1 else decisions(self.logits, self.labels)

    def probabilities(self, temperature: float) -> Array:
        """Of several labels per row, (rows, labels), to the last digit those that `predict` sees."""
        found = (torch.tensor(self.logits, dtype=torch.float32) / temperature).sigmoid()
        return found.double().numpy()


def calibrate(run: Run) -> dict[str, Any]:
    """Fit on validation, keep the result in config.json, and return what calibration.json holds.

    Raises ConfigError for a run without a model, a task without classes, or where nothing can be written,
    DataError where the validation rows decide nothing.
    """
    finished = FinishedRun(run, calibrated=False)
    refuse_unwritable(run)
    data = finished.data()
    if not isinstance(data.scorer, ClassScorer | MultilabelScorer):
        raise ConfigError(
            f"{run.path}: the answers of task={data.task.name} are not classes with probabilities; possible "
            "with a task that gives each row one label or several"
        )
    seen = {split: seen_by(finished, data, split) for split in SPLITS}
    held = seen["validation"]
    refuse_undecided(run, held)
    temperature = fit_temperature(*held.choices())
    record: dict[str, Any] = {"temperature": temperature, "thresholds": None}
    own: dict[str, float] | None = None
    if isinstance(data.scorer, MultilabelScorer):
        names, default = data.scorer.names.names, data.scorer.threshold
        own = thresholds_of(held, temperature, names, default)
        record |= {"thresholds": own, "default_threshold": default}
        record["labels"] = by_label(seen, temperature, own, default)
    found = Recalibration(temperature, own)
    for split in SPLITS:
        record[split] = before_and_after(seen[split], found, record.get("default_threshold"))
    keep(run.model_dir, found)
    run.write_json(RECORD, record)
    return record


def remove(run: Run) -> bool:
    """Take a calibration away; whether there was one."""
    there = recalibration_of(run.model_dir) is not None
    refuse_unwritable(run)
    if there:
        keep(run.model_dir, None)
    (run.path / RECORD).unlink(missing_ok=True)
    return there


def refuse_unwritable(run: Run) -> None:
    """ConfigError where the files of a calibration cannot be written; raised before the work is done."""
    for place in dict.fromkeys((run.model_dir, run.path)):
        if reason := why_unwritable(place):
            raise ConfigError(f"calibrate: {place}: nothing can be written there ({reason})")


def seen_by(finished: FinishedRun, data: TaskData, split: str) -> Seen:
    """The logits of all rows of a split, in their order."""
    size, accelerator = 4 * finished.settings.train.batch_size, finished.accelerator
    found: list[tuple[int, Any]] = []
    for outputs, batch, places in batches_through(
        finished.model, data, data.dataset(split), size, accelerator
    ):
        rows = outputs.detach().float().cpu().numpy().astype(float)
        found += zip(places, zip(rows, batch["labels"].tolist(), strict=True), strict=True)
    pairs = ordered(found, accelerator)
    return Seen(*(numpy.array(column) for column in zip(*pairs, strict=True)))


def refuse_undecided(run: Run, held: Seen) -> None:
    """DataError where validation is too small, or where every colder temperature would fit better."""
    rows = len(held.labels)
    if rows < LEAST:
        raise DataError(
            f"{run.path}: {counted(rows, 'validation row')}, too few to fit a temperature;"
            f" {LEAST} are the least"
        )
    if all_right(*held.choices()):
        raise DataError(
            f"{run.path}: the answers to all {rows} validation rows are right, so that no temperature is the "
            "best: the lower, the likelier; more validation rows, or harder ones, are needed"
        )


def thresholds_of(held: Seen, temperature: float, names: list[str], default: float) -> dict[str, float]:
    """The threshold of each label, chosen on validation."""
    columns = zip(held.probabilities(temperature).T, held.labels.astype(int).T, strict=True)
    chosen = [fit_threshold(probabilities, labels, default) for probabilities, labels in columns]
    return dict(zip(names, chosen, strict=True))


def by_label(
    seen: dict[str, Seen], temperature: float, thresholds: dict[str, float], default: float
) -> dict[str, dict[str, Any]]:
    """The rows with each label and its F1 with the default and with its own threshold, on both splits."""
    found: dict[str, dict[str, Any]] = {name: {"threshold": own} for name, own in thresholds.items()}
    for split, held in seen.items():
        both = held.probabilities(1.0), held.probabilities(temperature)
        for place, (name, own) in enumerate(thresholds.items()):
            labels = held.labels[:, place]
            found[name][split] = {
                "positives": int(labels.sum()),
                "f1_before": f1_at(both[0][:, place], labels, default),
                "f1_after": f1_at(both[1][:, place], labels, own),
            }
    return found


def before_and_after(held: Seen, found: Recalibration, default: float | None) -> dict[str, Any]:
    """The quality of a split's probabilities, and of its answers where thresholds change these."""
    after = qualities(held, found.temperature)
    before = qualities(held, 1.0)
    if default is not None and found.thresholds is not None:
        before |= answers_scored(held, 1.0, default)
        after |= answers_scored(held, found.temperature, numpy.array([*found.thresholds.values()]))
    return {"rows": len(held.labels), "before": before, "after": after}


def qualities(held: Seen, temperature: float) -> dict[str, float]:
    """ECE and Brier score of the answers' probabilities as in reports, and NLL in nats per row.

    Of several labels per row every label is an answer, and the NLL is per label.
    """
    logits, labels = held.choices()
    probabilities = numpy.exp(log_probabilities(logits, temperature).max(1))
    right = logits.argmax(1) == labels
    found = calibration(probabilities.tolist(), right.tolist())
    return {
        "ece": found.error,
        "nll": mean_nll(logits, labels, temperature),
        "brier": found.brier,
        "mean_probability": float(probabilities.mean()),
        "right": float(right.mean()),
    }


def answers_scored(held: Seen, temperature: float, thresholds: Any) -> dict[str, float]:
    """Micro and macro F1 and subset accuracy with one threshold for all labels, or (labels,) of them."""
    return multilabel_scores(
        held.labels.astype(int), (held.probabilities(temperature) >= thresholds).astype(int)
    )
