"""environment.json: enough to repeat a run, cheap to find out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ftrun.runs.environment import describe, git_state


def test_it_says_versions_machine_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ftrun", "strategy=lora", "rank=4"])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    said = json.loads(json.dumps(describe("cpu")))
    assert said["command"] == ["ftrun", "strategy=lora", "rank=4"]
    assert (said["device"], said["omp_num_threads"], said["world_size"]) == ("cpu", "2", 1)
    assert said["versions"]["torch"] and said["python"] == sys.version.split()[0]


def test_it_names_the_commit_and_uncommitted_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None
    (tmp_path / "file").write_text("a")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "file"], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], check=True)
    state = git_state()
    assert state is not None
    assert (len(state["commit"]), state["dirty"]) == (40, False)
    (tmp_path / "file").write_text("b")
    assert git_state() == {"commit": state["commit"], "dirty": True}


def test_it_imports_no_torch() -> None:
    code = "import sys, ftrun.runs.environment as e; e.describe('cpu'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
