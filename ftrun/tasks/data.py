"""The data of a task: its rows, encoded for a model, with objective and scorer."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftrun.data.leaks import Leak, SplitTexts, among
from ftrun.errors import DataError, memory_told
from ftrun.runs.warm import digest, once, sharing, stamps
from ftrun.tasks.dataset import Dataset, Rows
from ftrun.tasks.parts.rows import TaskRows
from ftrun.tasks.parts.unknown import unknown_words
from ftrun.tasks.scorer import main_metric

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PretrainedConfig

    from ftrun.models.spec import Spec
    from ftrun.settings.protocols import Task
    from ftrun.tasks.objective import Objective
    from ftrun.tasks.scorer import Answer, Row, Scorer


@dataclass
class Encoded:
    """A split encoded for a run, and what encoding it did besides."""

    dataset: Dataset
    task: Any  # of that run
    notes: list[str]  # that it added to those of the rows
    cutting: Any  # of the tokenizer afterwards, which is saved with a model


class TaskData:
    """The data of a run; datasets, objective and scorer are made when they are first needed."""

    def __init__(self, task: Task, rows: Rows | None = None, spec: Spec | None = None) -> None:
        self.task: Any = task
        self.rows: Any = rows or Rows()
        self.spec: Spec = spec or task.spec(rows)
        self.processor: Any = None  # the model's tokenizer or image processor
        self.encoded: dict[str, Dataset] = {}
        self.baselines = True  # whether the data card has them
        self.answers: dict[str, list[Row]] = {}  # of each baseline, to the test rows
        self._read: list[Any] | None = None  # what tells these rows from others; None: nobody else has them

    @classmethod
    def read(cls, task: Task, seed: int, config: PretrainedConfig | None = None) -> TaskData:
        """All rows of a task, with the head of a saved model where its configuration is passed."""
        files = stamps(vars(task))
        rows = with_task(once("rows", [task, seed, files], lambda: task.load(seed)), task)
        data = cls(task, rows, None if config is None else task.spec(config))
        data._read = [files, rows.fingerprint or seed]
        return data

    @classmethod
    def of_file(cls, task: Task, file: str, config: PretrainedConfig, answered: bool = True) -> TaskData:
        """The rows of another file as the test split of a saved model."""
        spec = task.spec(config)
        return cls(task, task.load_file(file, answered, spec), spec)

    def encode(self, processor: Any, *splits: str) -> list[str]:
        """Encode the splits for a model; returns a summary of each, and what is to be said of the words.

        Raises DataError.
        """
        self.processor = processor
        for split in splits:
            self.encoded[split] = self._encode(split)
        lines = [self.encoded[split].summary for split in splits]
        unknown = unknown_words(self.encoded["train"], processor) if "train" in splits else ""
        return [*lines, unknown] if unknown else lines

    def dataset(self, split: str) -> Dataset:
        """The encoded train, validation or test split."""
        if split not in self.encoded:
            self.encoded[split] = self._encode(split)
        return self.encoded[split]

    @property
    def content(self) -> list[Any]:
        """What decides the encoded rows: the task, its files, what was read, the spec and the processor."""
        return [self.task, self._read, self.rows.notes, replace(self.spec, tokenizer=None), self._processor]

    @cached_property
    def _processor(self) -> str | None:
        """The processor by its content, before the first row."""
        return digest([self.processor])

    @memory_told(
        "when rows become tokens", "fewer rows, such as task.subset=10000, a smaller task.max_length"
    )
    def _encode(self, split: str) -> Dataset:
        """The split encoded now, or for an earlier run that read the same."""
        from ftrun.models.tokenizer import cutting, restore_cutting

        made = False

        def encode() -> Encoded:
            nonlocal made
            made, said = True, len(self.rows.notes)
            dataset = self.task.encode(self, split)
            return Encoded(dataset, self.task, self.rows.notes[said:], cutting(self.processor))

        if self._read is None or not sharing():
            return self.task.encode(self, split)
        found = once(f"encoded {split}", self.content, encode)
        if not made:
            self.rows.notes += found.notes
            restore_cutting(self.processor, found.cutting)
        return with_task(found.dataset, self.task, found.task)

    @cached_property
    def objective(self) -> Objective:
        """The objective, in evaluation mode until training begins."""
        found: Objective = self.task.objective(self)
        return found.eval()

    def taught(self, train: Dataset, objective: Objective) -> TaskData:
        """The same data with other batches and another objective, for training to learn from."""
        own = copy.copy(self)
        own.encoded = self.encoded | {"train": train}
        vars(own)["objective"] = objective.eval()
        return own

    @cached_property
    def scorer(self) -> Scorer:
        found: Scorer = self.task.scorer(self)
        return found

    def judged(
        self,
        name: str,
        answers: Sequence[Answer],
        split: str,
        places: Sequence[int],
        score: Callable[[list[Row]], dict[str, float]] | None = None,
    ) -> dict[str, float]:
        """The scores of a baseline's answers to the examples at `places`; those to test rows are kept.

        By `score` where it is not that of the network's answers.
        """
        examples = self.dataset(split).examples
        blank = dict.fromkeys(self.scorer.columns)
        rows = self.scorer.rows([blank | answer for answer in answers], [examples[at] for at in places])
        return self.judged_rows(name, rows, split, score or self.scorer.score)

    def judged_rows(
        self, name: str, rows: list[Row], split: str, score: Callable[[list[Row]], dict[str, float]]
    ) -> dict[str, float]:
        """The same of rows that are answered already."""
        if split == "test":
            self.answers[name] = rows
        return score(rows)

    def slices(self, rows: Sequence[Row]) -> list[dict[str, str]]:
        """The slices of each answered test row, column → slice; nothing where the task has none."""
        if not isinstance(self.rows, TaskRows):
            return []
        return self.rows.slices_of([row.row for row in rows], lambda split: self.dataset(split).examples)

    @property
    def metric(self) -> str:
        """The name of the task's main metric."""
        return main_metric(self.scorer)


def with_task(shared: Any, task: Any, former: Any = None) -> Any:
    """Rows or a dataset for a run of its own: the same content, with this run's task and a list of notes."""
    own = copy.copy(shared)
    for name, value in vars(own).items():
        if type(value) is type(task) and (former is None or value is former):
            setattr(own, name, task)
        elif name == "notes":
            setattr(own, name, list(value))
    return own


def learned(theirs: TaskData, data: TaskData, splits: Sequence[str], which: str) -> list[Leak]:
    """What of these splits is among the training rows of theirs, which `which` names; DataError."""
    return among(contents(theirs.rows), contents(data.rows), splits, which)


def contents(rows: Any) -> SplitTexts:
    """What tells the rows of each split apart; DataError where they are not held."""
    if isinstance(rows, TaskRows):
        return rows.contents()
    if not rows.splits:
        raise DataError("rows of several tasks are not compared")
    keys = {split: [row.tobytes().hex() for row in pixels] for split, (pixels, _) in rows.splits.items()}
    return SplitTexts(
        keys, {split: [f"image {at}" for at, _ in enumerate(own)] for split, own in keys.items()}
    )
