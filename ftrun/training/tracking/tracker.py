"""Trackers: TensorBoard, W&B and MLflow. A failing tracker never fails the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, near

if TYPE_CHECKING:
    from ftrun.runs.run import Run

NAMES = ("none", "tensorboard", "wandb", "mlflow")
STORED = "tracker.json"  # the service's id of the run, under which a resumed run continues

Log = Callable[[dict[str, float], int], Any]
Close = Callable[[], Any]


class Tracker:
    """Sends metrics until its library fails, which prints a warning and disables the tracker."""

    def __init__(self, name: str, connect: Callable[[Run], tuple[Log, Close]] | None, run: Run) -> None:
        self.name = name
        self._log: Log | None = None
        self._close: Close | None = None
        if connect is not None:
            self._guarded(self._connect, connect, run)

    def log(self, values: dict[str, Any], step: int) -> None:
        """Send the numbers among the values."""
        if self._log is not None:
            numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
            self._guarded(self._log, numbers, step)

    def close(self) -> None:
        """Send pending values; does nothing when the tracker is disabled or closed."""
        close, self._log, self._close = self._close, None, None
        if close is not None:
            self._guarded(close)

    def _connect(self, connect: Callable[[Run], tuple[Log, Close]], run: Run) -> None:
        self._log, self._close = connect(run)

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # no error of a tracking service may end the training
            self._log = self._close = None
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"ftrun: warning: tracker={self.name} is disabled: {reason[:300]}", file=sys.stderr)


def check(name: str) -> None:
    """Refuse an unknown tracker and one that is not installed, without importing any."""
    if name not in NAMES:
        raise ConfigError(f"tracker={name} is unknown; possible: {', '.join(NAMES)}{near(name, NAMES)}")
    if name != "none" and name not in sys.modules and find_spec(name) is None:
        raise ConfigError(f'tracker={name} is not installed; install it: pip install "ftrun[{name}]"')


def open_tracker(name: str, run: Run) -> Tracker:
    """The tracker of a run; of a resumed run, the same one as before."""
    check(name)
    connect = {"none": None, "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
    return Tracker(name, connect[name], run)


def _tensorboard(run: Run) -> tuple[Log, Close]:
    from torch.utils.tensorboard import SummaryWriter

    writers: list[SummaryWriter] = []

    def log(values: dict[str, float], step: int) -> None:
        if not writers:  # purge_step hides the steps after the checkpoint from which a killed run is resumed
            folder = str(run.path / "tensorboard")
            writers.append(SummaryWriter(folder, purge_step=step, flush_secs=20))
        for name, value in values.items():
            if name != "step":
                writers[0].add_scalar(name, value, step)

    def close() -> None:
        for writer in writers:
            writer.close()

    return log, close


def _wandb(run: Run) -> tuple[Log, Close]:
    import wandb

    online = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "ftrun"),  # an argument would override the environment
        name=os.environ.get("WANDB_NAME", run.path.name),
        dir=os.environ.get("WANDB_DIR", str(run.path)),
        id=_stored_id(run, "wandb"),
        resume="allow",
        config=run.config,
    )
    run.write_json(STORED, {"wandb": online.id})
    online.define_metric("*", step_metric="step")  # W&B's own step cannot go back, as a resumed run does

    def log(values: dict[str, float], step: int) -> None:
        online.log({**values, "step": step})

    return log, online.finish


def _mlflow(run: Run) -> tuple[Log, Close]:
    import mlflow

    known = _stored_id(run, "mlflow")
    active = mlflow.start_run(run_id=known, run_name=None if known else run.path.name)
    run.write_json(STORED, {"mlflow": active.info.run_id})
    if known is None:
        mlflow.log_params({name: str(value)[:500] for name, value in _flat(run.config).items()})

    def log(values: dict[str, float], step: int) -> None:
        mlflow.log_metrics(values, step=step)

    return log, mlflow.end_run


def _stored_id(run: Run, name: str) -> str | None:
    return (run.read_json(STORED) or {}).get(name)


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names: train.lr."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
