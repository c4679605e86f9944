"""A run that was stopped and resumed is the run that was not; tests/experiments/test_kills.py kills it."""

import os
import shutil
import signal
from collections import Counter

import pytest
from lab import ran, toy

from ftrun.errors import DataError, Interrupted
from ftrun.experiments import single as experiment
from ftrun.runs.run import Run
from ftrun.training import checkpoint
from ftrun.training.loop import Loop

WORDS = "train.epochs=3", "train.checkpoint_every=2", "train.lr=3e-3", "train.eval_every=5"


@pytest.fixture
def interrupted(toy_files, tiny_dir, tmp_path, monkeypatch, capsys):
    """A run that was asked to end after its third step."""
    honest = experiment.Step.take

    def step(self, rows):
        if self.state.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(self, rows)

    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(experiment.Step, "take", step)
        ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *WORDS))
    assert caught.value.exit_code == 143
    assert f"to continue: ftrun resume {tmp_path / 'run'}" in capsys.readouterr().out
    return tmp_path / "run"


def test_termination_saves_and_the_resumed_run_is_the_same(interrupted, toy_files, tiny_dir, tmp_path):
    assert Run(interrupted).state == "interrupted"
    assert checkpoint.read_state(interrupted / "checkpoints" / "last")["step"] == 3
    ran(tmp_path / "whole", toy(toy_files, tiny_dir("bert"), *WORDS))
    experiment.resume(interrupted)
    counts = Counter(line["phase"] for line in Run(interrupted).timing() if "phase" in line)
    assert (
        counts["data"] == 3 and counts["preflight"] == counts["report"] == 1
    )  # of two attempts, and the baseline
    for file in ("model.safetensors", "config.json"):
        assert (interrupted / "model" / file).read_bytes() == (
            tmp_path / "whole" / "model" / file
        ).read_bytes()
    assert (interrupted / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_signal_during_the_last_evaluation_is_heeded(toy_files, tiny_dir, tmp_path, monkeypatch):
    """Else a study of many runs would begin the next one."""
    honest = Loop.evaluate

    def evaluate(self):
        honest(self)
        if self.state.step == self.length.total:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="saved at step (\\d+) of \\1"):
        patch.setattr(Loop, "evaluate", evaluate)
        ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *WORDS))
    assert Run(tmp_path / "run").state == "interrupted"
    ran(tmp_path / "whole", toy(toy_files, tiny_dir("bert"), *WORDS))
    experiment.resume(tmp_path / "run")
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_moved_run_resumes(interrupted, tmp_path):
    shutil.move(interrupted, tmp_path / "elsewhere")
    experiment.resume(tmp_path / "elsewhere")
    assert Run(tmp_path / "elsewhere").finished


def test_a_checkpoint_torn_in_half_is_said_and_the_run_begins_again(interrupted, capsys):
    file = interrupted / "checkpoints" / "last" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    experiment.resume(interrupted)
    out = capsys.readouterr().out
    assert "skipped: last is incomplete (weights.safetensors has" in out
    assert "resuming at step 0" in out


def test_a_finished_run_is_shown_not_repeated(interrupted, capsys):
    first = experiment.resume(interrupted)
    before = (interrupted / "metrics.jsonl").read_bytes()
    assert experiment.resume(interrupted) == first
    assert "is finished" in capsys.readouterr().out
    assert (interrupted / "metrics.jsonl").read_bytes() == before


def test_changed_data_are_refused(interrupted, toy_files):
    file = toy_files / "train.csv"
    lines = file.read_text().splitlines()
    try:
        file.write_text("\n".join([*lines[:-1], "another text,negative"]) + "\n")
        with pytest.raises(DataError, match="the data has changed since this run started"):
            experiment.resume(interrupted)
    finally:
        file.write_text("\n".join(lines) + "\n")
