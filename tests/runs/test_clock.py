"""What time is spent on: every second in one phase of one run, and all of them the process's time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftrun.runs import clock
from ftrun.runs.run import Run


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only this list moves: its last value is the time, half of it on the CPU."""
    at = [0.0]
    monkeypatch.setattr(clock, "now", lambda: (at[-1], at[-1] / 2))
    monkeypatch.setattr(clock, "_mark", (0.0, 0.0))
    monkeypatch.setattr(clock, "_open", [({}, "compose")])
    return at


def test_a_phase_pauses_while_another_is_open_inside_it(ticks: list[float], tmp_path: Path) -> None:
    run = Run.create(tmp_path, {"seed": 0})
    ticks.append(3)
    with clock.account():
        ticks.append(4)
        with clock.phase("train"):
            ticks.append(10)
            with clock.phase("evaluate"):
                ticks.append(30)
            ticks.append(31)
        ticks.append(32)
        run.log_time(*clock.lines())
    assert clock.spent_by(run) == {
        "compose": (3, 1.5), "load": (2, 1), "train": (7, 3.5), "evaluate": (20, 10)
    }  # fmt: skip


def test_a_run_pauses_while_its_source_is_trained_and_attempts_add_up(
    ticks: list[float], tmp_path: Path
) -> None:
    outer, inner = (Run.create(tmp_path / name, {"seed": 0}) for name in ("outer", "inner"))
    ticks.append(1)
    with clock.account():
        with clock.phase("data"):
            ticks.append(3)
            with clock.account():
                ticks.append(7)
                inner.log_time(*clock.lines())
            ticks.append(8)
        outer.log_time(*clock.lines())
    ticks.append(10)  # the next attempt's settings
    with clock.account(), clock.phase("data"):
        ticks.append(20)
        outer.log_time(*clock.lines())
        outer.log_time(*clock.lines())  # nothing has passed since, and nothing counts twice
    assert clock.spent_by(inner) == {"load": (4, 2)}
    assert clock.spent_by(outer) == {"compose": (3, 1.5), "data": (13, 6.5), "load": (0, 0)}


def test_an_error_closes_what_it_leaves(ticks: list[float]) -> None:
    with pytest.raises(ZeroDivisionError), clock.account(), clock.phase("train"):
        raise ZeroDivisionError
    assert len(clock._open) == 1


def test_the_start_of_the_process_is_known() -> None:
    """Within what the process's own CPU time and the age of this test's interpreter allow."""
    code = "import time; a = time.perf_counter(); time.sleep(0.2); from ftrun.runs import clock; " \
        "b = time.perf_counter(); w, c = clock.started(); print(b - w, b - a)"  # fmt: skip
    begun = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    age, least = map(float, out.split())
    assert least - 0.02 <= age <= time.perf_counter() - begun + 0.02


def test_the_phases_of_a_run_are_the_time_of_its_process(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ftrun", "task=digits", "model=mlp", "train.max_steps=6",
             "baselines=false", f"hydra.run.dir={tmp_path / 'run'}"]  # fmt: skip
    before = os.times()
    timed = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True, env=timed)
    after = os.times()
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    unused = {"matplotlib", "tensorboard", "wandb", "datasets", "kornia", "peft", "evaluate"}
    assert "torch" in imported and imported.isdisjoint(unused)
    assert done.stdout.startswith("full · digits · mlp · seed 0: run\n")
    lines = [json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    spent = clock.spent_by(Run(tmp_path / "run"))
    assert {*spent} == {*clock.PHASES} and any("step" in line for line in lines)
    wall, cpu = (sum(part[kind] for part in spent.values()) for kind in (0, 1))
    whole = after.children_user + after.children_system - before.children_user - before.children_system
    assert whole * 0.9 <= cpu <= whole * 1.01
    assert wall <= after.elapsed - before.elapsed
