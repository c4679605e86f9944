"""An earlier task with a model under that task's head, for measuring forgetting and for rehearsal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.tasks.dataset import rows_of
from ftrun.training.evaluate import evaluate

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.tasks.data import TaskData


@dataclass
class SourceTask:
    """An earlier task, and the model with that task's head."""

    name: str
    data: TaskData
    model: Model
    uniform: float | None = None  # loss of a uniform guess over the vocabulary, nats per token
    fitted: bool = False  # whether the head had to be fitted on the frozen network

    @property
    def rows(self) -> int:
        """The number of training rows; a text that is masked in several ways counts once."""
        return len(rows_of(self.data.dataset("train")))

    def gauge(self, before: dict[str, float]) -> dict[str, Any]:
        """How little a head of words knew before training: its loss as a share of a uniform guess's."""
        if self.uniform is None:
            return {}
        share = before["loss"] / self.uniform
        return {"gauge": {"fitted": self.fitted, "uniform_loss": self.uniform, "share": share}}

    def scores(self, split: str, size: int, accelerator: Accelerator) -> dict[str, float]:
        """Every metric of the task on a split, for the current model."""
        return evaluate(self.model, self.data, self.data.dataset(split), size, accelerator)[0]

    def forgetting(self, before: dict[str, float], now: dict[str, float]) -> float:
        """The drop of the task's main metric between two evaluations; negative for a gain."""
        metric = self.data.metric
        return self.data.scorer.metrics[metric].sign * (before[metric] - now[metric])
