"""A directory that somebody made is still there after a command that came to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUN = ["task=classify", "task.train=gone.csv", "task.text=a", "task.label=b", "hydra.run.dir=mine/run"]
SWEEP = ["-m", "task=digits", "seed=0,1", "hydra.launcher.max_retries=-1", "hydra.sweep.dir=mine/sweep"]

FILE = "# @package _global_\nhydra: {run: {dir: mine/run}}\n"


@pytest.mark.parametrize(
    "words",
    [RUN, [*SWEEP, "hydra/launcher=local"], [*RUN[:-1], "experiment=own"]],
    ids=["run", "sweep", "named in a file"],
)
def test_an_empty_directory_stays_and_what_hydra_made_goes(tmp_path, words):
    (tmp_path / "mine").mkdir()
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "own.yaml").write_text(FILE)
    command = [sys.executable, "-m", "ftrun", *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode in (2, 3), ended.stderr
    assert (tmp_path / "mine").is_dir() and not [*(tmp_path / "mine").iterdir()]
