"""Ctrl-C and a full disk outside of the steps: the command that goes on is said, and it does."""

import re

import pytest
from kill_cases import DIGITS, IMAGES, SHORT, VIEWS
from safetensors import SafetensorError

from ftrun.commands import compare
from ftrun.experiments import finish, single
from ftrun.runs.run import Run

FULL = SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)")


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("place", "name"),
    [(single, "load_network"), (single, "preflight"), (finish, "export")],
)
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (FULL, 1, "disk quota exceeded: {run}")],
    ids=["ctrl-c", "full"],
)
def test_what_ends_a_run_outside_of_its_steps_says_how_it_goes_on(
    ftrun_inprocess, tmp_path, monkeypatch, place, name, error, code, said
):
    with monkeypatch.context() as patch:
        patch.setattr(place, name, failing(error))
        ended = ftrun_inprocess(*DIGITS, "strategy=full", f"hydra.run.dir={tmp_path}/run", check=False)
    run = Run.open(tmp_path / "run")
    assert ended.returncode == code and ended.stderr == f"ftrun: {said.format(run=run.path)}\n"
    assert ended.stdout.rstrip().endswith(f"to continue: ftrun resume {run.path}")
    assert run.read_json("failure.json")["exit_code"] == code
    ftrun_inprocess("resume", str(run.path))
    assert run.finished and run.read_json("failure.json") is None


def test_a_run_that_is_finished_has_not_failed(ftrun_inprocess, tmp_path, monkeypatch):
    monkeypatch.setattr(finish, "show_result", failing(KeyboardInterrupt()))
    ended = ftrun_inprocess(*DIGITS, "strategy=full", f"hydra.run.dir={tmp_path}/run", check=False)
    assert ended.returncode == 130 and "to continue" not in ended.stdout
    assert Run.open(tmp_path / "run").finished and not (tmp_path / "run" / "failure.json").exists()


def test_of_a_sweep_the_command_that_continues_all_of_it(ftrun_inprocess, tmp_path, monkeypatch):
    words = ["-m", *DIGITS, "strategy=full,bitfit"]
    with monkeypatch.context() as patch:
        patch.setattr(finish, "export", failing(FULL))
        ended = ftrun_inprocess(*words, f"hydra.sweep.dir={tmp_path}/all", check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stdout + ended.stderr
    (line,) = re.findall("^to continue the whole: (.*)$", ended.stdout, re.M)
    assert line.startswith("ftrun -m ") and line.endswith(f"hydra.sweep.dir={tmp_path}/all")
    assert not (tmp_path / "all" / "1-bitfit").exists()  # no run is begun on a full disk
    assert "2 of 2 runs finished" in ftrun_inprocess(*words, f"hydra.sweep.dir={tmp_path}/all").stdout


def test_of_a_run_that_is_pre_trained_first_too(ftrun_inprocess, tmp_path, monkeypatch):
    words = ["task=image", "model=cnn_small", *SHORT, *IMAGES, *VIEWS]
    with monkeypatch.context() as patch:
        patch.setattr(finish, "show_result", failing(KeyboardInterrupt()))
        ended = ftrun_inprocess(*words, f"hydra.run.dir={tmp_path}/run", check=False)
    assert ended.returncode == 130 and not Run(tmp_path / "run").finished
    assert f"hydra.run.dir={tmp_path}/run" in ended.stdout.splitlines()[-1]
    assert "already pre-trained" in ftrun_inprocess(*words, f"hydra.run.dir={tmp_path}/run").stdout
    assert Run.open(tmp_path / "run" / "pretraining").finished and Run.open(tmp_path / "run").finished


@pytest.mark.parametrize("name", ["planned", "prepared", "conduct", "finish"])
def test_of_a_comparison_wherever_it_is(ftrun_inprocess, tmp_path, monkeypatch, name):
    words = ["compare", *DIGITS, "--strategies", "full", "--seeds", "1", "--lr", "default", "--dir"]
    with monkeypatch.context() as patch:
        patch.setattr(compare, name, failing(KeyboardInterrupt()))
        ended = ftrun_inprocess(*words, str(tmp_path / "study"), check=False)
    assert ended.returncode == 130 and ended.stderr.splitlines() == ["ftrun: interrupted"]
    assert ended.stdout.splitlines()[-1].startswith("to continue: ftrun compare task=digits")
