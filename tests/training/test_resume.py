"""A run that was killed and resumed is the run that was not: bit for bit, whatever the moment."""

import os
import random
import shutil
import signal
from collections import Counter

import pytest
from lab import EXTRA, STRATEGIES, ran, toy
from resuming import PROCESSES, same

from ftrun.errors import DataError, Interrupted
from ftrun.experiments import single as experiment
from ftrun.runs.run import Run
from ftrun.training import checkpoint

WORDS = "train.epochs=3", "train.checkpoint_every=2", "train.lr=3e-3", "train.eval_every=5"


def words_of(strategy):
    return [f"strategy={strategy}", *EXTRA.get(strategy, []), *WORDS]


def child(path, files, model, words, resume, moment):
    """Run or resume, and die by SIGKILL when data goes to the disk for the `moment`-th time."""
    flushed = 0
    honest = os.fsync

    def fsync(handle):
        nonlocal flushed
        flushed += 1
        if flushed == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        honest(handle)

    os.fsync = fsync
    if resume:
        experiment.resume(path)
    else:
        experiment.run(toy(files, model, *words), path)


def in_child(*arguments):
    process = PROCESSES.Process(target=child, args=arguments)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_killed_at_random_moments_and_resumed_it_is_the_same_run(toy_files, tiny_dir, tmp_path, strategy):
    model, words = tiny_dir("bert"), words_of(strategy)
    assert in_child(tmp_path / "whole", toy_files, model, words, False, 0) == 0
    chance = random.Random(strategy)
    killed = tmp_path / "killed"
    assert in_child(killed, toy_files, model, words, False, chance.randrange(4, 60)) == -signal.SIGKILL
    kills = 1
    while in_child(killed, toy_files, model, words, True, chance.randrange(4, 50) if kills < 3 else 0):
        kills += 1
    assert kills > 1
    same(tmp_path / "whole", killed)


def test_killed_while_it_saves(toy_files, tiny_dir, tmp_path):
    """Every flush of the second checkpoint in turn: the tensors, the state, the manifest, the directory."""
    model, words = tiny_dir("bert"), words_of("lora")
    assert in_child(tmp_path / "whole", toy_files, model, words, False, 0) == 0
    for moment in (11, 13, 14, 16):
        killed = tmp_path / f"killed{moment}"
        assert in_child(killed, toy_files, model, words, False, moment) == -signal.SIGKILL
        assert in_child(killed, toy_files, model, words, True, 0) == 0
        same(tmp_path / "whole", killed)


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
    assert counts["data"] == 2 and counts["preflight"] == counts["report"] == 1  # of two attempts
    for file in ("model.safetensors", "config.json"):
        assert (interrupted / "model" / file).read_bytes() == (
            tmp_path / "whole" / "model" / file
        ).read_bytes()
    assert (interrupted / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_signal_during_the_last_evaluation_is_heeded(toy_files, tiny_dir, tmp_path, monkeypatch):
    """Else a study of many runs would begin the next one."""
    honest = experiment.Loop.evaluate

    def evaluate(self):
        honest(self)
        if self.state.step == self.length.total:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="saved at step (\\d+) of \\1"):
        patch.setattr(experiment.Loop, "evaluate", evaluate)
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
