"""Trackers: they get the numbers and what a run came to, go on after a resume, and never fail a run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from finished import finished
from lab import ran, settings
from scipy.stats import binomtest

from ftrun.errors import ConfigError, Interrupted, UserError
from ftrun.reports.closing import MOST, closing_of
from ftrun.runs.run import Run
from ftrun.training.tracking.tracker import check, open_tracker

CONFIG = {"seed": 3, "task": {"name": "reviews"}, "train": {"lr": 1e-5}}
DIGITS = [
    "task=digits",
    "model=mlp",
    "device=cpu",
    "baselines=false",
    "train.max_steps=2",
    "train.eval_every=1",
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "first", CONFIG)


@pytest.fixture
def closed(tmp_path: Path) -> Run:
    """A finished run with a hash of its rows and a card, and a file that is too large to send."""
    run = finished(tmp_path / "closed", baselines={"majority": 0.5})
    run.write_json("data.json", {"fingerprint": "ab12", "baselines": {"majority": {"test_accuracy": 0.99}}})
    (run.model_dir / "README.md").write_text("---\ntags:\n- ftrun\n---\n\n# A card\n")
    (run.path / "details.json").write_text(" " * (MOST + 1))
    return run


class Wandb(types.ModuleType):
    """What ftrun uses of wandb, written down call by call."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.notes: str | None = None
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

    def save(self, path: str, base_path: str, policy: str, glob: bool) -> None:
        assert policy == "now" and not glob
        self.calls.append(("save", Path(path).relative_to(base_path).as_posix()))

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    fake = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("PROJECT", "NAME", "DIR", "RUN_GROUP"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
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
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"^tracker={name} needs {name}: pip install 'ftrun\[{name}\]'$"):
        check(name)


def test_checking_imports_no_tracker_and_no_torch() -> None:
    code = (
        "import sys; from ftrun.training.tracking.tracker import check; check('tensorboard'); check('none');"
        "sys.exit(bool({'torch', 'tensorboard'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_none_does_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = open_tracker("none", run)
    tracker.log({"train_loss": 1.0}, 1)
    tracker.close()
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in run.path.iterdir()) == [".lease-1", "config.yaml", "metrics.jsonl"]


def read_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = read_events(folder)
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
    assert scalars(run.path / "tensorboard") == {
        "train_loss": [(1, 1.0), (2, 8.0)],
        "eval_accuracy": [(2, 0.5)],
    }


def test_a_finished_run_is_its_scores_with_interval_its_verdict_its_data_and_its_card(closed: Run) -> None:
    found, score = closing_of(closed), closed.result("test_accuracy")["test_accuracy"]
    wilson = binomtest(round(400 * score), 400).proportion_ci(method="wilson")
    assert found.scores == {
        "test_accuracy": score,
        "test_accuracy_low": pytest.approx(wilson.low, abs=0.002),
        "test_accuracy_high": pytest.approx(wilson.high, abs=0.002),
        "best_eval_accuracy": 0.8,
    }
    assert found.texts["data_sha256"] == "ab12" and found.card == "# A card"
    warning, diagnosis = found.texts["verdict"].splitlines()
    assert warning.startswith("warning: no better than always answering the most frequent label")
    assert diagnosis == "diagnosis: no sign of underfitting or overfitting"
    names = [path.relative_to(closed.path).as_posix() for path in found.files]
    assert names == ["config.yaml", "result.json", "data.json", "cost.json", "model/README.md"]


def test_a_run_scored_on_validation_alone_has_nothing_of_test(tmp_path: Path) -> None:
    run = finished(tmp_path / "alone")
    (run.path / "predictions.jsonl").unlink()
    own = {"metric": "eval_accuracy", "best_step": 50, "eval_accuracy": 0.7, "forgetting": None}
    run.write_json("result.json", own)
    assert closing_of(run).scores == {"best_eval_accuracy": 0.7}


def test_tensorboard_has_what_a_run_came_to_in_its_tabs(closed: Run) -> None:
    with open_tracker("tensorboard", closed) as tracker:
        tracker.finish(100)
    assert len([*(closed.path / "tensorboard").iterdir()]) == 1  # one run
    events = read_events(closed.path / "tensorboard")
    (score,) = events.Scalars("test_accuracy")
    assert (score.step, score.value) == (100, pytest.approx(closed.result("test_accuracy")["test_accuracy"]))
    (verdict,) = events.Tensors("verdict/text_summary")
    assert b"most frequent label" in verdict.tensor_proto.string_val[0]
    assert events.Tensors("card/text_summary")[0].tensor_proto.string_val == [b"# A card"]
    started = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"train.lr" in started and b"classify" in started


def test_a_training_run_sends_what_it_came_to(tmp_path: Path) -> None:
    run = ran(tmp_path / "run", settings(*DIGITS, "tracker=tensorboard"))
    found = scalars(run.path / "tensorboard")
    assert found["test_accuracy"] == [(2, pytest.approx(run.result("test_accuracy")["test_accuracy"]))]
    assert len(found["eval_accuracy"]) == 2


@pytest.fixture
def mlflow_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """`mlflow_at("sqlite")` or `mlflow_at("server")`: a client of an empty one, which ftrun finds too."""
    mlflow, started = pytest.importorskip("mlflow"), []
    for name in ("EXPERIMENT_NAME", "EXPERIMENT_ID", "RUN_ID"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.chdir(tmp_path)

    def make(kind: str) -> Any:
        place = f"sqlite:///{tmp_path}/runs.db"
        if kind == "server":
            pytest.importorskip("flask")  # mlflow-skinny has none
            port = free_port()
            words = ["server", "--backend-store-uri", place, "--port", str(port), "--workers", "1"]
            started.append(subprocess.Popen([sys.executable, "-m", "mlflow", *words], start_new_session=True))
            place = f"http://127.0.0.1:{port}"
            wait_for(f"{place}/health")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
        return mlflow.MlflowClient(place)

    yield make
    for process in started:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(url: str) -> None:
    """Until a server answers; URLError after two minutes."""
    for left in range(240, -1, -1):
        try:
            urlopen(url).close()
            return
        except URLError:
            if not left:
                raise
            time.sleep(0.5)


@pytest.mark.ci
@pytest.mark.enable_socket
@pytest.mark.filterwarnings("default")  # of its own libraries among each other
@pytest.mark.parametrize("kind", ["sqlite", "server"])
def test_mlflow_is_one_run_of_an_experiment_with_all_that_came_of_it(
    kind: str, closed: Run, mlflow_at: Callable[[str], Any]
) -> None:
    client = mlflow_at(kind)
    with suppress(Interrupted), open_tracker("mlflow", closed) as tracker:
        tracker.log({"train_loss": 0.5}, 7)
        raise Interrupted("stop", 15)
    experiment = client.get_experiment_by_name("reviews")
    (begun,) = client.search_runs([experiment.experiment_id])
    assert (begun.info.run_name, begun.info.status) == ("closed", "KILLED")
    assert begun.data.params["train.lr"] == "0.001"
    with open_tracker("mlflow", Run.open(closed.path)) as tracker:
        tracker.log({"train_loss": 0.25}, 8)
        tracker.finish(8)
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (begun.info.run_id, "FINISHED")
    found = closing_of(closed)
    assert run.data.metrics == pytest.approx({"train_loss": 0.25, **found.scores})
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 2
    assert found.texts.items() <= run.data.tags.items()
    assert run.data.tags["mlflow.note.content"] == "# A card"
    assert [each.path for each in client.list_artifacts(run.info.run_id, "model")] == ["model/README.md"]


def test_wandb_gets_the_numbers_and_a_resumed_run_goes_on_in_the_same(run: Run, wandb: Wandb) -> None:
    tracker = open_tracker("wandb", run)
    tracker.log({"train_loss": 0.5, "best": None}, 7)
    tracker.close()
    tracker.close()
    own = {
        "project": "ftrun",
        "name": "first",
        "dir": str(run.path),
        "group": "reviews",
        "resume": "allow",
        "reinit": "create_new",
        "config": CONFIG,
    }
    assert wandb.calls == [
        ("init", {**own, "id": None}),
        ("define_metric", ("*", "step")),
        ("log", {"train_loss": 0.5, "step": 7}),
        ("finish", 0),
    ]
    open_tracker("wandb", Run.open(run.path))
    assert wandb.calls[4] == ("init", {**own, "id": "fresh"})


def test_wandb_follows_its_environment(run: Run, wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"PROJECT": "project", "NAME": "name", "DIR": "dir", "RUN_GROUP": "group"}
    for name in names:
        monkeypatch.setenv(f"WANDB_{name}", f"my-{name}")
    open_tracker("wandb", run)
    own = wandb.calls[0][1]
    assert {name: own[key] for name, key in names.items()} == {name: f"my-{name}" for name in names}


@pytest.mark.ci
@pytest.mark.filterwarnings("default")
def test_wandb_itself_takes_it_offline(closed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(closed.path))
    with open_tracker("wandb", closed) as tracker:
        tracker.log({"train_loss": 0.5}, 7)
        tracker.finish(7)
    wandb.teardown()  # which writes all
    (place,) = (closed.path / "wandb").glob("offline-run-*")
    (file,) = place.glob("run-*.wandb")
    said = file.read_bytes()
    for expected in (b"train_loss", b"test_accuracy_low", b"verdict", b"ab12", b"# A card", b"reviews"):
        assert expected in said
    assert (place / "files" / "closed" / "result.json").samefile(closed.path / "result.json")


def test_wandb_has_what_a_run_came_to_in_its_summary_and_files(closed: Run, wandb: Wandb) -> None:
    with open_tracker("wandb", closed) as tracker:
        tracker.finish(100)
    found = closing_of(closed)
    assert wandb.summary == {**found.scores, **found.texts} and wandb.notes == "# A card"
    saved = [where for call, where in wandb.calls if call == "save"]
    assert saved[0] == "closed/config.yaml" and saved[-1] == "closed/model/README.md"


@pytest.mark.parametrize("error", [UserError("no"), Interrupted("stop", 15), KeyboardInterrupt(), None])
def test_a_service_hears_how_the_run_ended(run: Run, wandb: Wandb, error: BaseException | None) -> None:
    with suppress(UserError, KeyboardInterrupt), open_tracker("wandb", run):
        if error is not None:
            raise error
    assert wandb.calls[-1] == ("finish", int(error is not None))


def test_a_failing_tracker_costs_one_line_and_is_off(
    run: Run, wandb: Wandb, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = open_tracker("wandb", run)
    wandb.broken = True
    tracker.log({"train_loss": 0.5}, 1)
    wandb.broken = False
    tracker.log({"train_loss": 0.5}, 2)
    tracker.finish(2)
    tracker.close()
    assert capsys.readouterr().err == (
        "ftrun: warning: tracker=wandb is disabled, and the run directory has what it lacks:"
        " ConnectionError: the service is gone\n"
    )
    assert [name for name, _ in wandb.calls] == ["init", "define_metric"]


def test_a_tracker_that_fails_at_the_end_leaves_the_run_finished(
    wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def save(*_: Any, **__: Any) -> None:
        raise ConnectionError("the service is gone")

    monkeypatch.setattr(wandb, "save", save)
    run = ran(tmp_path / "run", settings(*DIGITS, "tracker=wandb"))
    assert run.finished and run.result("test_accuracy") and run.state == "finished"
    assert wandb.summary["test_accuracy"] == run.result("test_accuracy")["test_accuracy"]
    assert capsys.readouterr().err.count("tracker=wandb is disabled") == 1


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
