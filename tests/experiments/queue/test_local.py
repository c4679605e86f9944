"""Real processes: killed, asked to stop, several for a run; it all comes to what one process makes."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from killing import content, different

from ftrun.experiments.overrides import settings_of
from ftrun.experiments.queue import capacity
from ftrun.experiments.queue.capacity import Room
from ftrun.experiments.queue.inheriting import inherited
from ftrun.experiments.queue.job import Job, Packed, Place
from ftrun.runs.run import Run
from ftrun.settings.read import read
from ftrun.training.checkpoint import read_state

LONG = [
    "task=digits", "model=mlp", "train.max_steps=600", "train.checkpoint_every=100", "train.eval_every=300",
    "baselines=false", "device=cpu",
]  # fmt: skip
SWEEP = ["-m", *LONG, "seed=0,1", "hydra.sweep.dir=all"]
LOCAL = ["hydra/launcher=local", "hydra.launcher.n_jobs=2", "hydra.launcher.threads=1"]


def started(place, *words):
    """The driver in a session of its own, as Ctrl-C of a terminal reaches all processes of one."""
    return subprocess.Popen(
        [sys.executable, "-m", "ftrun", *SWEEP, *LOCAL, *words], cwd=place, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def workers(driver):
    return [
        each for each in psutil.Process(driver.pid).children() if "spawn_main" in " ".join(each.cmdline())
    ]


def wait_for(there):
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


def training(place):
    return any(place.glob("all/*/checkpoints/last"))


def made_alone(place, *words):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "ftrun", *SWEEP, *words], cwd=place, check=True, env=environment)
    return place


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs, one after the other in one process."""
    return made_alone(tmp_path_factory.mktemp("alone"))


def assert_as_alone(place, alone):
    for name in ("0-full", "1-full"):
        assert not different(content(alone / "all" / name), content(place / "all" / name)), name


@pytest.mark.ci
def test_a_killed_worker_is_replaced_and_its_run_goes_on(tmp_path, alone):
    driver = started(tmp_path)
    wait_for(lambda: training(tmp_path))
    workers(driver)[0].kill()
    said, error = driver.communicate(timeout=300)
    assert driver.returncode == 0, error
    assert "was killed (SIGKILL)" in said and "it is taken up again (1 of 3)" in said
    assert said.rstrip().endswith("2 of 2 runs finished: ftrun report all")
    assert_as_alone(tmp_path, alone)


@pytest.mark.ci
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_saves_every_run_and_says_how_it_goes_on(tmp_path, alone, times):
    driver = started(tmp_path)
    wait_for(lambda: training(tmp_path))
    below = workers(driver)
    for _ in range(times):
        os.killpg(driver.pid, signal.SIGINT)
        time.sleep(0.05)
    said, error = driver.communicate(timeout=120)
    assert driver.returncode == 130 and "Traceback" not in said + error
    assert "to continue the whole: ftrun -m task=digits" in said
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in below)
    if times == 1:
        assert "stopping: 2 running" in said
        states = [Run(path).read_json("failure.json") for path in tmp_path.glob("all/?-full")]
        assert all(state is None or state["exit_code"] == 143 for state in states)
    again = started(tmp_path)
    again.communicate(timeout=300)
    assert again.returncode == 0
    assert_as_alone(tmp_path, alone)


@pytest.mark.ci
def test_a_killed_driver_s_workers_save_and_end(tmp_path):
    """In runs that would take a minute or more."""
    driver = started(tmp_path, "train.max_steps=20000", "train.eval_every=10000")
    wait_for(lambda: training(tmp_path))
    below = workers(driver)
    driver.kill()
    driver.communicate(timeout=120)
    _, alive = psutil.wait_procs(below, timeout=30)
    assert len(below) == 2 and not alive
    (first, *_) = (Run(path) for path in tmp_path.glob("all/?-full") if (path / "checkpoints/last").exists())
    assert first.state == "interrupted" and read_state(first.checkpoints / "last")["step"] < 20_000


@pytest.mark.ci
def test_a_run_of_a_group_of_processes(tmp_path, monkeypatch):
    """Not of 600 steps: in one of so many, rounding turns a unit of ReLU on or off, and gradients with it."""
    short = ["seed=0", "train.max_steps=120"]
    (tmp_path / "alone").mkdir()
    one = made_alone(tmp_path / "alone", *short)
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    driver = started(tmp_path, "hydra.launcher.processes=2", "hydra.launcher.n_jobs=1", *short)
    said, error = driver.communicate(timeout=300)
    assert driver.returncode == 0, error
    left = {each.name.partition("_")[0] for each in temporary.iterdir()}
    assert left <= {"torchinductor"}  # the cache of its compiler, the same for all runs
    assert "2 processes" in Run(tmp_path / "all" / "0-full").read_json("environment.json")["device"]
    mine, other = (Run(place / "all" / "0-full").metrics() for place in (one, tmp_path))
    assert [line["step"] for line in mine] == [line["step"] for line in other]
    for line, same in zip(mine, other, strict=True):
        assert line == pytest.approx(same, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("room", "runs", "bound"),
    [
        (Room(8, 64e9, [], 1e9), 8, "cores"),
        (Room(8, 3.5e9, [], 1e9), 3, "memory"),
        (Room(8, 0.5e9, [], 1e9), 1, "memory"),
        (Room(8, 3e9, ["0", "1"], 1e9), 2, "GPUs"),
        (Room(8, 3e9, [], 0.0), 8, "cores"),
    ],
)
def test_as_many_as_the_machine_has_room_for(room, runs, bound):
    assert (room.runs, room.bound) == (runs, bound)


def test_a_run_takes_the_memory_that_a_plan_tells(tmp_path):
    """Of several the largest; one whose network is not there counts for nothing."""
    from ftrun.experiments.study.fitting import needed_bytes

    mlp, gone = ["task=digits", "model=mlp"], ["task=digits", f"model.name={tmp_path}/gone"]
    wide = [*mlp, "train.batch_size=4096"]
    raws = [settings_of(words) for words in (mlp, gone, wide)]
    jobs = [Job(n, "", tmp_path, "", Packed.of(raw), Place()) for n, raw in enumerate(raws)]
    small, large = needed_bytes(read(raws[0])), needed_bytes(read(raws[2]))
    assert capacity.needed(jobs[:2]) == small < large == capacity.needed(jobs)


def test_a_worker_s_environment_is_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with inherited({"OMP_NUM_THREADS": "1", "FTRUN_TEST": "yes"}):
        assert os.environ["OMP_NUM_THREADS"] == "1" and os.environ["FTRUN_TEST"] == "yes"
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert os.environ["OMP_NUM_THREADS"] == "7" and "FTRUN_TEST" not in os.environ
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
