"""A Ray of two nodes on this machine: killed workers, a lost node, Ctrl-C, and who is left out."""

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftrun.experiments.queue.job import STOPPED, Job, Packed, Place
from ftrun.experiments.queue.ray import Ray
from ftrun.runs.run import FAILURE, METRICS

pytestmark = [
    pytest.mark.ci,
    pytest.mark.slow,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
ray = pytest.importorskip("ray", reason="Ray is not installed")
TINY = ["task=digits", "model=mlp", "device=cpu", "train.max_steps=5"]
SAME = ("metrics.jsonl", "result.json", "predictions.jsonl")
RUNS = 30


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One node of one core. It is reached by this machine's own address, which the other tests forbid."""
    from ray.cluster_utils import Cluster

    own = [place for place in os.environ["PYTHONPATH"].split(os.pathsep) if "offline" not in place]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(own))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


def workers(word: str = "ray::make") -> list[int]:
    """The processes below this one that are called so."""
    table = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()
    rows = [line.split(None, 2) for line in table[1:]]
    below = {str(os.getpid())}
    for _ in range(8):
        below |= {row[0] for row in rows if row[1] in below}
    return [int(row[0]) for row in rows if row[0] in below and word in row[2]]


def patient(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What the condition comes to, as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


def test_killed_workers_and_a_lost_node_cost_no_run_and_no_byte(
    cluster: Any, tmp_path: Path, ftrun_inprocess: Callable[..., Any]
) -> None:
    other = cluster.add_node(num_cpus=1)
    chance, over = random.Random(0), threading.Event()
    killed: list[str] = []

    def kill() -> None:
        patient(lambda: len([*tmp_path.glob("ray/*/result.json")]) >= 2, 120)
        for number in range(6):
            if over.wait(chance.uniform(0.5, 1.5)):
                return
            if number == 3:
                cluster.remove_node(other, allow_graceful=False)
                killed.append("node")
            elif there := workers():
                os.kill(chance.choice(there), signal.SIGKILL)
                killed.append("worker")

    killer = threading.Thread(target=kill)
    killer.start()
    words = ["-m", *TINY, f"seed=range({RUNS})"]
    address = f"hydra.launcher.address={cluster.address}"
    try:
        found = ftrun_inprocess(*words, "hydra/launcher=ray", address, "hydra.sweep.dir=ray")
    finally:
        over.set()
        killer.join()
    alone = ftrun_inprocess(*words, "hydra.sweep.dir=alone")
    assert "node" in killed and killed.count("worker") >= 2
    assert "by Ray on 2 machines, 2 at the same time of 1 core each" in found.stdout
    assert found.stdout.count("is taken up again") >= 1 and "(raylet)" not in found.stdout + found.stderr
    for result in (found, alone):
        assert f"{RUNS} of {RUNS} runs finished" in result.stdout.splitlines()[-1]
    for place in (tmp_path / "alone").glob("*-full"):
        for name in SAME:
            assert (place / name).read_bytes() == (tmp_path / "ray" / place.name / name).read_bytes()
    entries = [json.loads(file.read_text()) for file in (tmp_path / "ray" / "ledger").glob("*.json")]
    assert Counter(entry["state"] for entry in entries) == {"finished": RUNS}
    assert {entry["run"] for entry in entries} == {f"{number}-full" for number in range(RUNS)}
    assert not [*(tmp_path / "ray").glob(".ray-*")]


def engine(cluster: Any, **settings: Any) -> Ray:
    common = {"num_cpus": "auto", "num_gpus": "auto", "options": None, "runtime_env": None}
    return Ray(**{"address": cluster.address} | common | settings)


def job(path: Path, processes: int = 1) -> Job:
    from lab import settings

    raw = settings(*TINY, "train.max_steps=100000", "train.checkpoint_every=100000").raw
    return Job(int(path.name), path.name, path, path.name, Packed.of(raw), Place(), processes)


@pytest.mark.parametrize("processes", [1, 2])
def test_runs_that_are_stopped_save_and_what_waits_never_begins(
    cluster: Any, tmp_path: Path, processes: int
) -> None:
    made = engine(cluster, num_cpus=1)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    first, second = job(tmp_path / "0", processes), job(tmp_path / "1", processes)
    try:
        made.open(tmp_path, [first])
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        assert made.room() == 1
        made.start(first)
        made.start(second)
        assert made.room() == 0 and made.wait(0.1) == []
        patient(lambda: trains(first), 120)
        made.stop()
        events = patient(lambda: made.wait(1)) + patient(lambda: made.wait(1) or not made.running)
    finally:
        made.close()
    assert {event.state for event in events if event is not True} == {STOPPED}
    assert "saved at step" in json.loads((first.path / FAILURE).read_text())["message"]
    assert not second.path.exists()
    made.close()


def test_a_group_ends_with_the_worker_that_waits_for_it(cluster: Any, tmp_path: Path) -> None:
    made = engine(cluster, num_cpus=1)
    try:
        made.open(tmp_path, [job(tmp_path / "0", 2)])
        made.start(job(tmp_path / "0", 2))
        patient(lambda: trains(job(tmp_path / "0")), 120)
        ours = [each for each in workers("ftrun.experiments.queue.group") if mine(each, tmp_path)]
        assert len(ours) >= 2
        os.kill(workers()[0], signal.SIGKILL)
        [event] = patient(lambda: made.wait(1))
        assert event.message == "its process was killed"
        patient(lambda: not any(mine(each, tmp_path) for each in ours))
    finally:
        made.close()


def trains(made: Job) -> bool:
    file = made.path / METRICS
    return file.exists() and file.stat().st_size > 0


def mine(process: int, place: Path) -> bool:
    """Whether the process lives and writes into the place."""
    try:
        return any(str(place) in os.readlink(file) for file in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False
