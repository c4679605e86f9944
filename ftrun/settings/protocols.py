"""The interfaces of tasks, strategies and schedules, as settings and training use them."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from ftrun.settings.habits import Habits, Pace


class Task(Protocol):
    """The interface of a task, documented in `ftrun.tasks.base.Task`."""

    name: str
    habits: ClassVar[Habits]
    ignored_settings: ClassVar[tuple[str, ...]]
    endings: ClassVar[tuple[str, ...]]

    def check(self, settings: Any) -> None: ...

    def load(self, seed: int) -> Any: ...

    def load_file(self, file: str, answered: bool, spec: Any) -> Any: ...

    def spec(self, source: Any) -> Any: ...

    def encode(self, data: Any, split: str) -> Any: ...

    def objective(self, data: Any) -> Any: ...

    def scorer(self, data: Any) -> Any: ...

    def generator(self, data: Any) -> Any: ...


class Strategy(Protocol):
    """The interface of a strategy, documented in `ftrun.strategies.base.Strategy`."""

    needs_source: ClassVar[bool]
    needs_new_head: ClassVar[bool]
    foldable: ClassVar[bool]
    starts_random: ClassVar[bool]
    copies: ClassVar[int]
    on_rounded: ClassVar[bool]
    pace: ClassVar[Pace]

    def paced(self) -> Pace: ...

    def check(self, settings: Any) -> None: ...

    def fits(self, model: Any) -> None: ...

    @property
    def solved(self) -> bool: ...

    def chosen(self, settings: Any, model: Any) -> tuple[dict[str, Any], str]: ...

    def prepare(self, model: Any) -> None: ...

    def opens(self, stage: int, course: Any) -> int: ...

    def rate(self, stage: int, step: int, course: Any) -> float: ...

    def scale(self, name: str) -> float: ...

    def rate_by_stage(self) -> bool: ...

    def measure(self, memory: Any) -> None: ...

    def remember(self, memory: Any) -> None: ...

    def settled(self) -> dict[str, float]: ...

    def replay(self, step: int, size: int) -> list[tuple[Any, list[int]]]: ...

    def replayed_share(self) -> float: ...

    def add_gradient(self) -> None: ...

    def pull(self, rates: dict[str, float]) -> None: ...

    def pulls(self) -> bool: ...

    def penalty(self) -> float | None: ...


class Schedule(Protocol):
    """A learning-rate schedule."""

    def factor(self, step: int, total: int, warmup: int) -> float:
        """The factor of the peak rate, from 0 to 1, at optimizer step `step` of `total`, counted from 0."""
