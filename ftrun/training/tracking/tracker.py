"""Trackers: TensorBoard, W&B and MLflow. A failing tracker never fails the run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ftrun.errors import ConfigError, near, needs

if TYPE_CHECKING:
    from ftrun.reports.closing import Closing
    from ftrun.runs.run import Run

NAMES = ("none", "tensorboard", "wandb", "mlflow")

End = Literal["finished", "interrupted", "failed"]


class Service(Protocol):
    """A run at a tracking service; every method may raise whatever its library raises."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Send numbers of a step."""

    def finish(self, closing: Closing, step: int) -> None:
        """Send what a run came to at its last step."""

    def close(self, end: End) -> None:
        """Send what is pending, and say how the run ended."""


class Tracker:
    """Sends metrics until its library fails, which prints a warning and disables the tracker.

    As a context manager it is closed at the end, which says to the service how the run ended.
    """

    def __init__(self, name: str, connect: Callable[[Run], Service] | None, run: Run) -> None:
        self.name, self.run = name, run
        self._service: Service | None = None
        if connect is not None:
            self._guarded(self._connect, connect)

    def log(self, values: dict[str, Any], step: int) -> None:
        """Send the numbers among the values."""
        if self._service is not None:
            numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
            self._guarded(self._service.log, numbers, step)

    def finish(self, step: int) -> None:
        """Send the scores, verdict, data hash, model card and small files of the run, which has a result."""
        if self._service is not None:
            from ftrun.reports.closing import closing_of

            self._guarded(self._service.finish, closing_of(self.run), step)

    def close(self, end: End = "finished") -> None:
        """Send pending values; does nothing when the tracker is disabled or closed."""
        service, self._service = self._service, None
        if service is not None:
            self._guarded(service.close, end)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        stopped = isinstance(error, KeyboardInterrupt)
        self.close("finished" if error is None else "interrupted" if stopped else "failed")

    def _connect(self, connect: Callable[[Run], Service]) -> None:
        self._service = connect(self.run)

    def _guarded(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # no error of a tracking service may end the training
            self._service = None
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(
                f"ftrun: warning: tracker={self.name} is disabled, and the run directory has what it lacks:"
                f" {reason[:300]}",
                file=sys.stderr,
            )


def check(name: str) -> None:
    """Refuse an unknown tracker and one that is not installed, without importing any."""
    if name not in NAMES:
        raise ConfigError(f"tracker={name} is unknown; possible: {', '.join(NAMES)}{near(name, NAMES)}")
    if name != "none":
        needs(f"tracker={name}", name, name)


def open_tracker(name: str, run: Run) -> Tracker:
    """The tracker of a run; of a resumed run, the same one as before."""
    check(name)
    return Tracker(name, None if name == "none" else connector(name), run)


def connector(name: str) -> Callable[[Run], Service]:
    """What opens a run at the service, of the file of its name; its library is imported then."""
    connect: Callable[[Run], Service] = import_module(f"ftrun.training.tracking.{name}").connect
    return connect
