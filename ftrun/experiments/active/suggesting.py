"""Rows of a file that a finished run would learn most from, by its own network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.tables import columns_of
from ftrun.errors import ConfigError
from ftrun.experiments.active.choosing import Answered
from ftrun.experiments.active.pool import pool_of
from ftrun.experiments.inference import FinishedRun
from ftrun.models.features.last_layer import recorded
from ftrun.runs.terminal import say
from ftrun.settings.read import read
from ftrun.settings.seeds import stream
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import in_windows
from ftrun.tasks.multilabel import MultilabelScorer
from ftrun.tasks.parts.long_texts import by_row
from ftrun.tasks.scorer import PROBABILITIES
from ftrun.training.evaluate import batches_through

if TYPE_CHECKING:
    from ftrun.data.sources import Placed
    from ftrun.runs.run import Run
    from ftrun.settings.protocols import Task
    from ftrun.tasks.scorer import Answer


@dataclass
class Suggested:
    """One row to label: its columns, what the run answers, how sure it is, and its place in the order."""

    row: Placed
    answer: Answer


@dataclass
class Suggestion:
    """The rows in the order of their choice, and out of how many they were chosen."""

    rows: list[Suggested]
    pool: int
    labels: list[str]  # the columns to be filled
    classes: int


def suggestion(run: Run, file: str, count: int, sure: bool) -> Suggestion:
    """At most `count` rows of `file`; by their features alone where the run is not to be `sure` of anything.

    Notes are printed. A function of the run, its seed and the file. Raises ConfigError where the run's
    answers are not probabilities of labels.
    """
    refuse_without_labels(read(run.settings).task)
    finished = FinishedRun(run)
    data, own = finished.data(file, answered=False), finished.data()
    if finished.recalibration is not None:
        say(finished.recalibration.line())
    labels = columns_of(run.settings["task"].get("label", "label"))
    places, notes = pool_of(data, own, labels, file)
    for note in notes:
        say(f"left out: {note}")
    if finished.settings.streamed:
        say("task.stream=true: rows that are in train already are looked for in a sample of it")
    found, answers = answered(finished, data, places)
    seed = stream(finished.settings.seed, "suggest")
    chosen = found.chosen(min(count, len(places)), seed, sure)
    rows = data.rows.inputs
    said = [
        {
            "rank": rank,
            "answer": answers[at]["answer"],
            "probability": round(float(found.sure[at]), 6),
            "margin": round(float(found.margins[at]), 6),
        }
        for rank, at in enumerate(chosen, 1)
    ]
    examples = data.dataset("test").examples
    picked = [
        Suggested(rows[examples[places[at]].row], answer) for at, answer in zip(chosen, said, strict=True)
    ]
    return Suggestion(picked, len(places), labels, finished.config.num_labels)


def refuse_without_labels(task: Task) -> None:
    """ConfigError where nothing says how sure an answer is."""
    if PROBABILITIES not in TaskData(task).scorer.columns:
        raise ConfigError(
            f"suggest: task={task.name} does not answer with the probabilities of labels, from which rows are"
            " chosen; possible: runs of task=classify, multilabel, image and digits"
        )


def answered(finished: FinishedRun, data: TaskData, places: list[int]) -> tuple[Answered, list[Answer]]:
    """What the network makes of the examples at these places, in their order."""
    import numpy
    import torch

    dataset: Any = data.dataset("test")
    some = dataset.of([dataset[place] for place in places])
    whole = in_windows(some)
    size, classes = 4 * finished.settings.train.batch_size, finished.config.num_labels
    order: list[int] = []
    logits, features, answers = [], [], []
    scorer = data.scorer
    own = scorer.thresholds if isinstance(scorer, MultilabelScorer) else None
    with finished.computing(data), recorded(finished.model, classes) as latest:
        for outputs, batch, at in batches_through(finished.model, data, whole, size, finished.accelerator):
            order += at
            features.append(latest(outputs).double().cpu())
            logits.append(outputs.detach().double().cpu())
            answers += data.scorer.answers(outputs, batch)
    back = numpy.argsort(order)
    values, vectors = torch.cat(logits)[back], torch.cat(features)[back]
    answers = [answers[at] for at in back]
    if whole is not some:
        values, vectors = by_row(some.examples, values, some.aggregate), by_row(some.examples, vectors)
        answers = scorer.answers(values, {})
    chances = (values.softmax(-1) if own is None else values.sigmoid()).numpy()
    cut = None if own is None else numpy.array([*own.values()])
    return Answered(chances, vectors.numpy(), cut), answers
