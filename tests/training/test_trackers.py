"""Trackers: they get the numbers, go on after a resume, and never fail a run."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ftrun.errors import ConfigError
from ftrun.runs.run import Run
from ftrun.training import trackers
from ftrun.training.trackers import check, open_tracker

CONFIG = {"seed": 3, "train": {"lr": 1e-5}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "first", CONFIG)


class Wandb(types.ModuleType):
    """What ftrun uses of wandb, written down call by call."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []
        self.broken = False

    def init(self, **settings: Any) -> Wandb:
        self.calls.append(("init", settings))
        self.id = settings["id"] or "fresh"
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        self.calls.append(("define_metric", (name, step_metric)))

    def log(self, values: dict[str, float]) -> None:
        if self.broken:
            raise ConnectionError("the service\nis gone")
        self.calls.append(("log", values))

    def finish(self) -> None:
        self.calls.append(("finish", None))


class Mlflow(types.ModuleType):
    """What ftrun uses of mlflow, written down call by call."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.calls: list[tuple[str, Any]] = []

    def start_run(self, run_id: str | None, run_name: str | None) -> types.SimpleNamespace:
        self.calls.append(("start_run", (run_id, run_name)))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id or "fresh"))

    def log_params(self, values: dict[str, str]) -> None:
        self.calls.append(("log_params", values))

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log_metrics", (values, step)))

    def end_run(self) -> None:
        self.calls.append(("end_run", None))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    fake = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    return fake


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Mlflow:
    fake = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    return fake


def test_an_unknown_tracker_lists_the_possible(run: Run) -> None:
    with pytest.raises(
        ConfigError, match="tracker=wandbb is unknown; possible: none, .*did you mean 'wandb'?"
    ):
        open_tracker("wandbb", run)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_says_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match=rf'tracker={name} is not installed.*pip install "ftrun\[{name}\]"'):
        check(name)


def test_checking_imports_no_tracker_and_no_torch() -> None:
    code = (
        "import sys; from ftrun.training.trackers import check; check('tensorboard'); check('none');"
        "sys.exit(bool({'torch', 'tensorboard'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_none_does_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = open_tracker("none", run)
    tracker.log({"train_loss": 1.0}, 1)
    tracker.close()
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in run.path.iterdir()) == [".lease-1", "config.yaml", "metrics.jsonl"]


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_reads_the_numbers_back_also_after_a_resume(run: Run) -> None:
    tracker = open_tracker("tensorboard", run)
    for step in (1, 2, 3):
        tracker.log({"step": step, "train_loss": 1.0 / step, "note": "text"}, step)
    tracker.close()
    resumed = open_tracker("tensorboard", Run.open(run.path))
    resumed.log({"train_loss": 8.0}, 2)
    resumed.log({"eval_accuracy": 0.5}, 2)
    resumed.close()
    assert read_events(run.path / "tensorboard") == {
        "train_loss": [(1, 1.0), (2, 8.0)],
        "eval_accuracy": [(2, 0.5)],
    }


def test_wandb_gets_the_numbers_and_a_resumed_run_goes_on_in_the_same(run: Run, wandb: Wandb) -> None:
    tracker = open_tracker("wandb", run)
    tracker.log({"train_loss": 0.5, "best": None}, 7)
    tracker.close()
    tracker.close()
    settings = {
        "project": "ftrun",
        "name": "first",
        "dir": str(run.path),
        "resume": "allow",
        "config": CONFIG,
    }
    assert wandb.calls == [
        ("init", {**settings, "id": None}),
        ("define_metric", ("*", "step")),
        ("log", {"train_loss": 0.5, "step": 7}),
        ("finish", None),
    ]
    open_tracker("wandb", Run.open(run.path))
    assert wandb.calls[4] == ("init", {**settings, "id": "fresh"})


def test_wandb_follows_its_environment(run: Run, wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROJECT", "NAME", "DIR"):
        monkeypatch.setenv(f"WANDB_{name}", f"my-{name}")
    open_tracker("wandb", run)
    settings = wandb.calls[0][1]
    assert [settings[key] for key in ("project", "name", "dir")] == ["my-PROJECT", "my-NAME", "my-DIR"]


def test_mlflow_gets_settings_and_numbers_and_goes_on(run: Run, mlflow: Mlflow) -> None:
    tracker = open_tracker("mlflow", run)
    tracker.log({"train_loss": 0.5}, 7)
    tracker.close()
    open_tracker("mlflow", Run.open(run.path))
    assert mlflow.calls == [
        ("start_run", (None, "first")),
        ("log_params", {"seed": "3", "train.lr": "1e-05"}),
        ("log_metrics", ({"train_loss": 0.5}, 7)),
        ("end_run", None),
        ("start_run", ("fresh", None)),
    ]


def test_a_failing_tracker_costs_one_line_and_is_off(
    run: Run, wandb: Wandb, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = open_tracker("wandb", run)
    wandb.broken = True
    tracker.log({"train_loss": 0.5}, 1)
    wandb.broken = False
    tracker.log({"train_loss": 0.5}, 2)
    tracker.close()
    expected = "ftrun: warning: tracker=wandb is disabled: ConnectionError: the service is gone\n"
    assert capsys.readouterr().err == expected
    assert [name for name, _ in wandb.calls] == ["init", "define_metric"]


def test_a_tracker_that_cannot_start_is_off(
    run: Run, wandb: Wandb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def init(**_: Any) -> None:
        raise ValueError("no key")

    monkeypatch.setattr(wandb, "init", init)
    tracker = open_tracker("wandb", run)
    tracker.log({"train_loss": 0.5}, 1)
    tracker.close()
    assert capsys.readouterr().err.count("\n") == 1


def test_ctrl_c_is_no_failure_of_the_tracker(run: Run, wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    def log(_: dict[str, float]) -> None:
        raise KeyboardInterrupt

    tracker = open_tracker("wandb", run)
    monkeypatch.setattr(wandb, "log", log)
    with pytest.raises(KeyboardInterrupt):
        tracker.log({"train_loss": 0.5}, 1)
