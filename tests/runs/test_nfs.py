"""Drivers of one sweep on several machines: no locks, lost appends, and names that are seen late."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import nfs
import pytest

from ftrun.runs.leases import holder, lease
from ftrun.runs.ledger import Ledger
from ftrun.runs.run import Run

JOBS, KILLS = 8, 5


def worker(root: Path, host: str, seed: int, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, nfs.__file__, str(root), host, str(seed), str(JOBS), *more])


def test_nothing_is_lost_and_nothing_made_twice_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While processes are killed, and one sleeps until it has been taken over."""
    root, chance = tmp_path / "sweep", random.Random(0)
    root.mkdir()
    hosts = ["node1", "node1", "node2", "node3"]
    asleep = worker(root, "node4", 99, nfs.SLEEPY)
    assert os.WIFSTOPPED(os.waitpid(asleep.pid, os.WUNTRACED)[1])
    workers = [worker(root, host, seed) for seed, host in enumerate(hosts)]
    for seed in range(KILLS):
        time.sleep(0.25)
        which = chance.randrange(len(workers))
        workers[which].kill()
        workers[which].wait()
        workers[which] = worker(root, hosts[which], 10 + seed)
    for each in workers:
        assert each.wait(60) == 0
    asleep.send_signal(signal.SIGCONT)
    assert asleep.wait(60) == 0
    lines = [{"step": step} for step in range(nfs.STEPS)]
    for job in range(JOBS):
        run = Run.open(root / f"{job}-full")
        assert run.finished and run.metrics() == lines
        if hidden(run):  # its process was killed between its end and giving the run back
            monkeypatch.setattr(holder, "SILENT", 0.0)
            monkeypatch.setattr(lease, "WATCHED", 0.0)
            run.hold()
            run.release()
        assert not hidden(run)
    noted = {entry["key"]: entry["run"] for entry in Ledger(root).entries()}
    assert noted == {f"{job}": f"{job}-full" for job in range(JOBS)}
    refuse_overlap(Path(f"{root}.proof"))


def hidden(run: Run) -> list[Path]:
    return [path for path in run.path.iterdir() if path.name.startswith(".")]


def refuse_overlap(proof: Path) -> None:
    """Nobody saves a run after another has it, and it has one end."""
    events = defaultdict(list)
    for line in proof.read_text().splitlines():
        moment, number, run, what = line.split()
        events[run].append((float(moment), number, what))
    assert len(events) == JOBS and sum(len(each) for each in events.values()) > JOBS * nfs.STEPS
    for run, known in events.items():
        having = ""
        for _, number, what in sorted(known):
            having = number if what == "has" else having
            assert number == having, f"{run}: {number} {what} what {having} has"
        assert [what for *_, what in known].count("ends") <= 1
