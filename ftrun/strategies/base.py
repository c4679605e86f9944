"""The interface of every strategy: which weights of the network may move, when, and what holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ftrun.settings.habits import Pace

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.settings.schedules import Course
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData


class SourceTask(Protocol):
    """An earlier task, and the network with that task's head."""

    name: str
    data: TaskData
    model: Model

    @property
    def rows(self) -> int: ...


Past = SourceTask


@dataclass
class Memory:
    """What a strategy may look at before the first step, to decide what it holds."""

    model: Model
    pasts: list[SourceTask]  # oldest first; empty where the run has no source
    rows: int  # training examples of the task
    shared: bool  # one head for all tasks
    seed: int
    lr_sum: float  # the sum of all steps' effective learning rates, before `train.layer_decay`
    directory: Path  # of this run
    earlier: Path | None  # the run that is this one's source
    adaptive: bool = False  # the optimizer divides gradients by their size
    sizes: Callable[[], dict[str, float]] = dict  # of gradients, by name


HOLDS = ("remember", "replay", "add_gradient", "pull")  # the hooks of a strategy that holds weights


@dataclass
class Strategy:
    """Trains every weight and holds none. A strategy overrides the steps in which it differs.

    Its fields are the settings of its YAML file; a wrong value is a ConfigError.
    """

    needs_source: ClassVar[bool] = False
    needs_new_head: ClassVar[bool] = False  # there is nothing to train first where a checkpoint brings all
    foldable: ClassVar[bool] = (
        True  # what it adds can be folded into the weights, for a next task or as a source
    )
    starts_random: ClassVar[bool] = False  # it trains a network without pretrained weights
    copies: ClassVar[int] = 0  # of the trained weights, kept to hold them
    refits: ClassVar[bool] = False  # its head is solved for before each evaluation
    on_rounded: ClassVar[bool] = False  # it trains beside layers of few bits
    pace: ClassVar[Pace] = Pace()  # its rate and its steps beside full's, where train.lr and epochs are auto

    @classmethod
    def holds(cls) -> bool:
        """Whether it keeps the network to what it has learned: it overrides a hook that does so."""
        return any(getattr(cls, hook) is not getattr(Strategy, hook) for hook in HOLDS)

    def paced(self) -> Pace:
        """Its pace with the settings that it has."""
        return self.pace

    def check(self, settings: Settings) -> None:
        """ConfigError where the strategy does not go with the other settings."""

    def fits(self, model: Model) -> None:
        """ConfigError where the network has no part that this could train; it has no weights yet."""

    @property
    def solved(self) -> bool:
        """Whether what it trains is solved for by regression: it has no rate and takes no optimizer steps."""
        return False

    def chosen(self, settings: Settings, model: Model) -> tuple[dict[str, Any], str]:
        """What its settings at `auto` come to for a network and a task, by name, and why, in a line.

        The model may be an outline without weights. ConfigError for a choice that these do not allow.
        """
        return {}, ""

    def prepare(self, model: Model) -> None:
        """Freeze, wrap or add weights; called once, after loading and before the optimizer exists.

        Afterwards `requires_grad` says of every parameter whether it trains. Everything random in here draws
        from torch's global generator, which the caller has seeded from the stream "init".
        """
        model.requires_grad_(True)

    def lesson(self, data: TaskData, model: Model) -> TaskData:
        """What training sees of the data: the batches of train, and the objective. Evaluation sees `data`.

        The network stands on the device of the run, as `prepare` has left it. UserError for rows that this
        strategy cannot learn from.
        """
        return data

    def opens(self, stage: int, course: Course) -> int:
        """The optimizer step from which a stage trains; until then it is frozen, without optimizer state."""
        return 0

    def rate(self, stage: int, step: int, course: Course) -> float:
        """The learning rate of an open stage at an optimizer step, before `train.layer_decay`."""
        return course.rate(step)

    def scale(self, name: str) -> float:
        """The factor on its stage's rate that the weight of this name has."""
        return 1.0

    def rate_by_stage(self) -> bool:
        """Whether `rate` differs from stage to stage."""
        return type(self).rate is not Strategy.rate

    def measure(self, memory: Memory) -> None:
        """What `remember` needs of the network in one piece, put on disk, one process after the other.

        The network may be split over processes afterwards, and is not when this is called.
        """

    def remember(self, memory: Memory) -> None:
        """Look at the network and the earlier tasks once, before the first step and again when resuming."""

    def settled(self) -> dict[str, float]:
        """The settings that were `auto` and the numbers that `remember` found for them."""
        return {}

    def replay(self, step: int, size: int) -> list[tuple[SourceTask, list[int]]]:
        """Earlier examples to go with a batch of `size`: (task, rows of its training split)."""
        return []

    def replayed_share(self) -> float:
        """The share that replayed examples have in the loss."""
        return 0.0

    def add_gradient(self) -> None:
        """Add the gradient of a penalty to that of the loss, once per optimizer step, before clipping."""

    def pull(self, rates: dict[str, float]) -> None:
        """Move weights after an optimizer step, given each trained weight's rate in it."""

    def pulls(self) -> bool:
        """Whether `pull` moves weights; if not, the loop need not know at once that a step was taken."""
        return type(self).pull is not Strategy.pull

    def penalty(self) -> float | None:
        """The value of the penalty as it now is; None where there is none."""
        return None
