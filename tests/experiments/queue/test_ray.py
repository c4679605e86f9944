"""The engine of Ray without a cluster: what is refused, what a machine is asked, how much room there is."""

import sys
from pathlib import Path
from typing import Any

import pytest

from ftrun.errors import ConfigError
from ftrun.experiments.queue import ray_cluster
from ftrun.experiments.queue.job import Job, Packed, Place
from ftrun.experiments.queue.ray import Ray
from ftrun.experiments.queue.ray_cluster import Machines, amount, connect, only_here
from ftrun.experiments.queue.ray_task import Driving
from ftrun.runs.ledger import code_version

RAW = {"device": "auto", "model": {"name": "embedded:mlp"}}


def engine(**settings: Any) -> Ray:
    common = {"address": None, "num_cpus": "auto", "num_gpus": "auto", "options": None, "runtime_env": None}
    return Ray(**common | settings)


def job(processes: int = 1, **raw: Any) -> Job:
    return Job(0, "", Path("/runs/0"), "key", Packed.of(RAW | raw), Place(), processes)


WRONG = [("num_cpus", 0), ("num_cpus", "all"), ("num_gpus", -1), ("num_gpus", True)]


@pytest.mark.parametrize("name, value", WRONG)
def test_a_count_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"hydra.launcher.{name}={value}: possible: auto, or a number from"):
        engine(**{name: value})


@pytest.mark.parametrize("name", ["options", "runtime_env"])
def test_what_is_no_dict_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"hydra.launcher.{name}=SPREAD: possible: null, or"):
        engine(**{name: "SPREAD"})


def test_the_command_is_given_on_a_machine_of_the_cluster() -> None:
    with pytest.raises(ConfigError, match="address=ray://head:10001: .*; possible: null .* auto .*HEAD"):
        engine(address="ray://head:10001")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    made = engine()
    with pytest.raises(ConfigError, match="pip install 'ftrun\\[ray\\]'"):
        made.open(tmp_path, [job()], 1)
    made.close()
    assert not [*tmp_path.iterdir()]


@pytest.mark.enable_socket
@pytest.mark.parametrize("address", ["head", "127.0.0.1:none", "127.0.0.1:1"])
def test_an_address_where_nobody_answers_is_refused_at_once(address: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(ConfigError, match=f"hydra.launcher.address={address}: .*possible: null"):
        connect(address, None)


def test_a_machine_says_what_it_lacks(tmp_path: Path) -> None:
    """Another ftrun, a directory that is not there, or another directory under the same name."""
    shared, place = tmp_path / ".ray-x", Place(str(tmp_path))
    assert "is another one" in Driving(code_version(), str(shared), place, {}).lacking()
    shared.touch()
    assert Driving(code_version(), str(shared), place, {}).lacking() == ""
    assert "its ftrun is not the one" in Driving("other", str(shared), place, {}).lacking()
    gone = str(tmp_path / "gone")
    for driving in (
        Driving(code_version(), f"{gone}/x", place, {}),
        Driving(code_version(), str(shared), Place(gone), {}),
    ):
        assert driving.lacking() == f"it has no directory {gone}, which all machines must share"


@pytest.mark.parametrize(
    "settings, processes, raw, gpus, expected",
    [
        ({}, 1, {}, False, {"CPU": 1, "GPU": 0}),
        ({}, 1, {}, True, {"CPU": 1, "GPU": 1}),
        ({}, 4, {}, True, {"CPU": 4, "GPU": 4}),
        ({}, 2, {"device": "cpu"}, True, {"CPU": 2, "GPU": 0, "memory": 2e9}),
        ({"num_cpus": 8, "num_gpus": 0.5}, 1, {}, True, {"CPU": 8, "GPU": 0.5}),
        ({"options": {"memory": 3e9, "resources": {"a100": 1}}}, 1, {}, False, {"memory": 3e9, "a100": 1}),
    ],
)
def test_what_a_run_takes(
    settings: Any, processes: int, raw: Any, gpus: bool, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftrun.experiments.queue.capacity.needed", lambda jobs: 1e9)
    found = engine(**settings).needs(job(processes, **raw), gpus)
    assert found.items() >= expected.items()


def test_room_is_counted_by_what_is_scarcest() -> None:
    machines = Machines({"CPU": 2, "GPU": 0, "memory": 4e9})
    assert machines.runs({"CPU": 9, "memory": 100e9}) == 4
    assert machines.runs({"CPU": 9, "memory": 5e9}) == 1
    assert Machines({"CPU": 1, "GPU": 0.5}).runs({"CPU": 8, "GPU": 1}) == 2
    assert Machines({"CPU": 1, "a100": 1}).runs({"CPU": 8}) == 0
    assert [amount("CPU", 1), amount("GPU", 2), amount("memory", 8e8), amount("a100", 1)] == [
        "1 core", "2 GPUs", "0.8 GB", "1 a100",
    ]  # fmt: skip


def test_that_no_machine_is_left_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [{"Alive": True, "NodeID": "a", "Resources": {"CPU": 4}}]
    said: list[str] = []
    monkeypatch.setattr(ray_cluster, "say", said.append)
    monkeypatch.setattr(ray_cluster, "LOOK", 0)
    monkeypatch.setattr(Machines, "nodes", lambda machines: there)
    machines = Machines({"CPU": 1})
    counts = []
    for alive in (True, False, False, True):
        there[:] = [{"Resources": {"CPU": 4}}] * alive
        counts.append(machines.count())
    assert counts == [4, 0, 0, 4] and len(said) == 1 and "waits for one" in said[0]


def test_what_ray_sets_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    monkeypatch.delenv("FTRUN_QUIET", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with only_here({"FTRUN_QUIET": "1"}):
        assert os.environ["FTRUN_QUIET"] == "1"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert "FTRUN_QUIET" not in os.environ and signal.getsignal(signal.SIGTERM) is before
