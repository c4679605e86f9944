"""Run directories: claimed once, readable after a kill, movable."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ftrun.errors import ConfigError, InUse, UserError
from ftrun.runs.files import free_space_check
from ftrun.runs.find import find_runs
from ftrun.runs.run import Run

CONFIG = {"seed": 3, "train": {"lr": 1e-5, "patience": None}, "label": "1e-3", "answer": "yes", "on": True}


def test_create_and_open_give_the_same_config(tmp_path: Path) -> None:
    Run.create(tmp_path / "a" / "b", CONFIG)
    assert Run.open(tmp_path / "a" / "b").config == CONFIG


def test_a_directory_holds_one_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path, {"seed": 1})
    with pytest.raises(InUse, match="is being made by process"):
        Run.create(tmp_path, {"seed": 2})
    run.release()
    with pytest.raises(ConfigError, match="already holds a run.*ftrun resume"):
        Run.create(tmp_path, {"seed": 2})
    assert Run.open(tmp_path).config == {"seed": 1}


def test_hydras_own_folder_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 0\n")
    Run.create(tmp_path, CONFIG)
    assert find_runs([tmp_path]) == [tmp_path]


def test_create_refuses_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file; a run directory is expected"):
        Run.create(tmp_path / "file", CONFIG)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"cannot create .*sub: Permission denied") as caught:
        Run.create(tmp_path / "sub", CONFIG)
    assert caught.value.exit_code == 1


def test_open_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere is not a directory"):
        Run.open(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(ConfigError, match="not a run directory: it has no config.yaml and metrics.jsonl"):
        Run.open(tmp_path)


@pytest.mark.parametrize("text", ["a: [1", "- 1\n", ""])
def test_a_damaged_config_is_one_line(tmp_path: Path, text: str) -> None:
    Run.create(tmp_path, CONFIG)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="config.yaml is damaged") as caught:
        _ = Run.open(tmp_path).config
    assert "\n" not in str(caught.value)


def test_log_writes_valid_json_for_every_number(tmp_path: Path) -> None:
    run = Run.create(tmp_path, CONFIG)
    run.log({"step": 1, "train_loss": float("nan"), "norms": [float("inf"), 1.5]})
    run.log_time({"seconds": 0.1})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0], parse_constant=pytest.fail) == {
        "step": 1,
        "train_loss": None,
        "norms": [None, 1.5],
    }
    assert run.timing() == [{"seconds": 0.1}]


def test_truncation_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    run = Run.create(tmp_path, CONFIG)
    run.log({"step": 1})
    size = run.metrics_size()
    run.log({"step": 2})
    run.truncate_metrics(size)
    assert run.metrics() == [{"step": 1}]
    assert run.metrics_size() == size
    with pytest.raises(UserError, match=rf"has {size} bytes, but had {size + 1} at the checkpoint"):
        run.truncate_metrics(size + 1)


def test_a_torn_last_line_is_never_seen_again(tmp_path: Path) -> None:
    run = Run.create(tmp_path, CONFIG)
    run.log({"step": 1})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "train')
    assert run.metrics() == [{"step": 1}]
    run = Run(tmp_path)  # of the process that goes on
    run.log({"step": 3})
    assert run.metrics() == [{"step": 1}, {"step": 3}]
    run.truncate_metrics(run.metrics_size() - 1)
    assert run.metrics() == [{"step": 1}]
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")


def test_a_damaged_line_names_the_file(tmp_path: Path) -> None:
    run = Run.create(tmp_path, CONFIG)
    (tmp_path / "metrics.jsonl").write_text("nonsense\n")
    with pytest.raises(UserError, match="metrics.jsonl is damaged"):
        run.metrics()


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path, CONFIG)
    run.write_json("cost.json", {"seconds": 1})
    before = sorted(os.listdir(tmp_path))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run.write_json("cost.json", {"seconds": 2})
    assert run.read_json("cost.json") == {"seconds": 1}
    assert sorted(os.listdir(tmp_path)) == before


def test_read_json_tells_missing_from_damaged(tmp_path: Path) -> None:
    run = Run.create(tmp_path, CONFIG)
    assert run.read_json("result.json") is None
    (tmp_path / "result.json").write_text('{"a": ')
    with pytest.raises(UserError, match="result.json is damaged"):
        run.read_json("result.json")


def test_states(tmp_path: Path) -> None:
    run = Run.create(tmp_path, CONFIG)
    assert (run.state, Run.open(tmp_path).state) == ("running", "running")
    run.release()
    assert (run.state, run.finished) == ("interrupted", False)
    run.write_json("failure.json", {"message": "diverged", "exit_code": 5})
    assert run.state == "failed"
    run.write_json("failure.json", {"message": "Ctrl-C", "exit_code": 130})
    assert run.state == "interrupted"
    run.hold()
    run.release()
    assert run.read_json("failure.json") is None
    run.write_json("result.json", {})
    assert (run.state, run.finished) == ("finished", True)


CHILD = """
import sys, time
from ftrun.runs.run import Run
run = Run.create(sys.argv[1], {"seed": 0})
print("ready", flush=True)
time.sleep(60)
"""


def test_one_process_holds_a_run_until_it_dies(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, tmp_path / "run"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        run = Run.open(tmp_path / "run")
        assert run.state == "running"
        with pytest.raises(
            InUse, match=rf"run is being made by process {child.pid} on .* \(last sign of"
        ) as error:
            run.hold()
        assert error.value.exit_code == 2
        child.send_signal(signal.SIGKILL)
    assert run.state == "interrupted"
    run.hold()
    assert run.state == "running"


def test_find_runs_in_sweeps_and_after_a_move(tmp_path: Path) -> None:
    for name in ("10-lora", "2-full", "0-lora"):
        Run.create(tmp_path / "outputs" / "sweep" / name, CONFIG).release()
    (tmp_path / "outputs" / "conf").mkdir()
    (tmp_path / "outputs" / "conf" / "config.yaml").write_text("seed: 0\n")
    shutil.move(tmp_path / "outputs", tmp_path / "moved")
    sweep = tmp_path / "moved" / "sweep"
    assert find_runs([tmp_path]) == [sweep / "0-lora", sweep / "2-full", sweep / "10-lora"]
    assert [path.name for path in find_runs([sweep / "2-full", tmp_path])] == ["2-full", "0-lora", "10-lora"]
    assert Run.open(sweep / "2-full").config == CONFIG
    with pytest.raises(ConfigError, match="gone is not a directory"):
        find_runs([tmp_path / "gone"])


def test_free_space_is_checked_where_the_run_will_be(tmp_path: Path) -> None:
    free_space_check(tmp_path / "not" / "yet", 1)
    with pytest.raises(UserError, match=r"no space left for .*yet: .* needs 1000 TB, .* are free") as caught:
        free_space_check(tmp_path / "not" / "yet", 10**15)
    assert caught.value.exit_code == 1


def test_neither_torch_nor_yaml_is_needed_to_import() -> None:
    code = "import sys, ftrun.runs.run; sys.exit(bool({'torch', 'omegaconf', 'yaml'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
