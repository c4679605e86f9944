"""The interface of a task: rows, examples, a head, an objective and a scorer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError, near
from ftrun.settings.habits import Habits

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from ftrun.models.spec import Spec
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Dataset, Rows
    from ftrun.tasks.generation import Generator
    from ftrun.tasks.objective import Objective
    from ftrun.tasks.scorer import Scorer


class Task(ABC):
    """A task; a dataclass whose fields are the settings of its YAML file.

    An invalid value is a ConfigError.
    """

    name: str

    habits: ClassVar[Habits] = Habits()  # how it is trained where the settings do not say
    ignored_settings: ClassVar[tuple[str, ...]] = ()  # settings of presets that this task does not use
    endings: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".jsonl")  # of the files that `predict` writes

    def check(self, settings: Settings) -> None:
        """Check the task against the other settings, of which it may keep some. Raises ConfigError.

        Called once, before any data is read.
        """
        from ftrun.tasks.data import TaskData

        check_metric(TaskData(self), settings)

    @abstractmethod
    def load(self, seed: int) -> Rows:
        """Read the rows of every split. Raises DataError."""

    @abstractmethod
    def load_file(self, file: str, answered: bool, spec: Spec) -> Rows:
        """The rows of another file as the test split of a saved model, described by `spec`.

        Rows that are not `answered` are also the `inputs`. Raises DataError.
        """

    @abstractmethod
    def spec(self, source: Rows | PretrainedConfig | None) -> Spec:
        """The spec of a model, from rows, from the configuration of a saved model, or from settings alone."""

    @abstractmethod
    def encode(self, data: TaskData, split: str) -> Dataset:
        """A split as examples for the model whose processor `data` has. Raises DataError.

        An empty row without an answer is left out.
        """

    @abstractmethod
    def objective(self, data: TaskData) -> Objective:
        """The objective that training minimises."""

    @abstractmethod
    def scorer(self, data: TaskData) -> Scorer:
        """The scorer of the predictions."""

    def generator(self, data: TaskData) -> Generator | None:
        """The generator of text, for tasks whose models generate it."""
        return None


def check_metric(data: TaskData, settings: Settings) -> None:
    """Refuses a train.metric that the task does not compute; some depend on the labels of its rows.

    As transformers' metric_for_best_model it may be without its "eval_".
    """
    wanted = settings.train.metric
    possible = [f"eval_{name}" for name in data.scorer.metrics]
    if wanted is not None and f"eval_{wanted.removeprefix('eval_')}" not in possible:
        raise ConfigError(
            f"train.metric={wanted}: task={data.task.name} has no such metric;"
            f" possible: {', '.join(possible)}{near(wanted, possible)}"
        )
