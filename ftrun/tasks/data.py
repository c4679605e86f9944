"""The data of a task: its rows, encoded for a model, with objective and scorer."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftrun.tasks.dataset import Dataset, Rows
from ftrun.tasks.parts.rows import TaskRows
from ftrun.tasks.scorer import main_metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PretrainedConfig

    from ftrun.models.spec import Spec
    from ftrun.settings.protocols import Task
    from ftrun.tasks.objective import Objective
    from ftrun.tasks.scorer import Answer, Row, Scorer


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

    @classmethod
    def read(cls, task: Task, seed: int, config: PretrainedConfig | None = None) -> TaskData:
        """All rows of a task, with the head of a saved model where its configuration is passed."""
        return cls(task, task.load(seed), None if config is None else task.spec(config))

    @classmethod
    def of_file(cls, task: Task, file: str, config: PretrainedConfig, answered: bool = True) -> TaskData:
        """The rows of another file as the test split of a saved model."""
        spec = task.spec(config)
        return cls(task, task.load_file(file, answered, spec), spec)

    def encode(self, processor: Any, *splits: str) -> list[str]:
        """Encode the splits for a model; returns a summary of each. Raises DataError."""
        self.processor = processor
        for split in splits:
            self.encoded[split] = self.task.encode(self, split)
        return [self.encoded[split].summary for split in splits]

    def dataset(self, split: str) -> Dataset:
        """The encoded train, validation or test split."""
        if split not in self.encoded:
            self.encoded[split] = self.task.encode(self, split)
        return self.encoded[split]

    @cached_property
    def objective(self) -> Objective:
        """The objective, in evaluation mode until training begins."""
        found: Objective = self.task.objective(self)
        return found.eval()

    @cached_property
    def scorer(self) -> Scorer:
        found: Scorer = self.task.scorer(self)
        return found

    def judged(
        self, name: str, answers: Sequence[Answer], split: str, places: Sequence[int]
    ) -> dict[str, float]:
        """The scores of a baseline's answers to the examples at `places`; those to test rows are kept."""
        examples = self.dataset(split).examples
        blank = dict.fromkeys(self.scorer.columns)
        rows = self.scorer.rows([blank | answer for answer in answers], [examples[at] for at in places])
        if split == "test":
            self.answers[name] = rows
        return self.scorer.score(rows)

    def slices(self, rows: Sequence[Row]) -> list[dict[str, str]]:
        """The slices of each answered test row, column → slice; nothing where the task has none."""
        if not isinstance(self.rows, TaskRows):
            return []
        return self.rows.slices_of([row.row for row in rows], lambda split: self.dataset(split).examples)

    @property
    def metric(self) -> str:
        """The name of the task's main metric."""
        return main_metric(self.scorer)
