"""A stream over several processes: the numbers of one, and going on after a kill."""

import json
import random
import shutil
import signal

import pytest
from lab import settings
from together import killed_at, said, together
from toys import toy_rows

from ftrun.experiments import single


@pytest.fixture
def words(tmp_path, still_dir, monkeypatch):
    """Training rows in three files, and 40 steps over them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = toy_rows(101 + 60, random.Random(0))
    lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
    parts = {"train1": lines[:40], "train2": lines[40:41], "train3": lines[41:101], "held": lines[101:]}
    for name, part in parts.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(part))
    return [
        "task=classify", f"task.train={tmp_path}/train*", f"task.validation={tmp_path}/held.jsonl",
        f"task.test={tmp_path}/held.jsonl", f"model.name={still_dir}", "task.max_length=32", "device=cpu",
        "train.batch_size=10", "train.micro_batch=3", "train.max_steps=40", "train.lr=1e-3",
        "task.stream=true", "train.checkpoint_every=10", "train.eval_every=20", "train.patience=null",
        "baselines=false",
    ]  # fmt: skip


def finished(processes, directory, words=()):
    """A run that so many processes make together, or go on with where there are no words."""
    works = {"run": lambda: single.run(settings(*words), directory) if words else single.resume(directory)}
    logs = directory.with_name(f"logs-{directory.name}")
    assert together(processes, works, logs) == [0] * processes, said(logs)


def killed(processes, directory, words):
    """The same, all processes of which are killed at the first checkpoint."""
    logs = directory.with_name(f"logs-{directory.name}")
    work = {"run": killed_at(10, directory, settings(*words))}
    assert together(processes, work, logs)[0] == -signal.SIGKILL, said(logs)
    assert (directory / "checkpoints/last").is_dir() and not (directory / "result.json").is_file()


def lines_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def alike(one, two):
    """Whether two runs differ by rounding alone, in what order gradients and losses are summed.

    A stream has no part in it: in one process and in two it has the bytes of rows in memory. After 60 steps
    the losses of one and two are 7e-8 apart, a unit of rounding of fp32, in which losses are
    summed; with a network in fp64 6e-8.
    """
    for ours, theirs in zip(lines_of(one), lines_of(two), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6), (ours, theirs)


@pytest.mark.ci
def test_processes_share_files_and_go_on_in_other_numbers(tmp_path, words):
    """Five are more than there are files; 2 → 2 is the same to the byte, 2 → 1 and 1 → 2 to rounding."""
    one = tmp_path / "one"
    finished(1, one, words)  # in a process of its own: those forked later would share its open files
    held_words = [word for word in words if word != "task.stream=true"]
    finished(1, tmp_path / "held", held_words)
    assert (tmp_path / "held/metrics.jsonl").read_bytes() == (one / "metrics.jsonl").read_bytes()
    shutil.rmtree(tmp_path / "cache")  # all make the shards at the same time
    finished(5, tmp_path / "five", words)
    alike(tmp_path / "five", one)
    finished(2, tmp_path / "two", words)
    alike(tmp_path / "two", one)
    finished(2, tmp_path / "two-held", held_words)
    assert (tmp_path / "two-held/metrics.jsonl").read_bytes() == (tmp_path / "two/metrics.jsonl").read_bytes()
    killed(2, tmp_path / "killed", words)
    shutil.copytree(tmp_path / "killed", tmp_path / "other")
    finished(2, tmp_path / "killed")
    assert (tmp_path / "killed/metrics.jsonl").read_bytes() == (tmp_path / "two/metrics.jsonl").read_bytes()
    finished(1, tmp_path / "other")
    alike(tmp_path / "other", one)
    killed(1, tmp_path / "alone", words)
    finished(2, tmp_path / "alone")
    alike(tmp_path / "alone", one)
