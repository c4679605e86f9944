"""What processes say to each other, with a store in memory; test_ranks.py has real processes."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from ftrun.errors import ConfigError, Interrupted
from ftrun.training import tensor_files
from ftrun.training.processes import connection, peers, ring
from ftrun.training.processes.launchers import only_cpu, refuse_sweep
from ftrun.training.processes.verdict import Outcome


class Store(dict[str, Any]):
    """As torch's, but in this process."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)


def others(size: int = 2, **own: Any) -> peers.Peers:
    found = peers.Peers.__new__(peers.Peers)
    store = Store()
    vars(found).update(rank=0, size=size, store=store, second=store, pids={}, signs={}, beats=0, **own)
    return found


def member(rank: int = 0, size: int = 2) -> ring.Ring:
    made = ring.Ring.__new__(ring.Ring)
    closing = SimpleNamespace(close=lambda: None, group=0, cut=lambda: None)
    vars(made).update(
        rank=rank, size=size, settling=False, over=False, late=False, message="a line", code=None, jobs=0,
        peers=others(size), connection=closing, done=threading.Event(), watcher=threading.Thread(),
    )  # fmt: skip
    made.watcher.start()
    return made


def test_sigterm_ends_a_process_at_once_unless_it_speaks_with_the_others_or_is_ending() -> None:
    made = member()
    with pytest.raises(Interrupted) as caught:
        made.terminated(signal.SIGTERM, None)
    assert caught.value.signum == signal.SIGTERM and not made.late
    made.settling = True
    made.terminated(signal.SIGTERM, None)
    assert made.late
    made.settling, made.over = False, True
    made.terminated(signal.SIGTERM, None)


@pytest.mark.parametrize("heard", [True, False])
def test_the_first_tells_the_end_and_waits_until_it_was_heard(
    monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(ring, "FAREWELL", 0.05)
    made = member()
    slept: list[float] = []
    monkeypatch.setattr(ring.time, "sleep", lambda seconds: slept.append(seconds) or pause(seconds))
    if heard:
        made.peers.store.set("heard/1", "")
    made.end(3)
    assert pickle.loads(made.peers.store["end"]) == (3, "a line")
    assert bool(slept) is not heard and made.done.is_set() and made.code == 3


pause = time.sleep


def test_another_says_that_it_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    made = member(rank=1)
    made.end(0)
    assert made.peers.store == {"heard/1": ""}


def test_processes_come_when_they_are_ready_and_none_once_all_is_over() -> None:
    assert list(others(3).until(lambda peer: peer != 1, ended=iter([False, True]).__next__)) == [0, 2]
    assert list(others(3).until(lambda peer: True)) == [0, 1, 2]
    assert list(others(3).until(lambda peer: True, ended=lambda: True)) == []


def test_a_sign_of_life_is_a_number_that_was_not_seen() -> None:
    made = others()
    made.signs = {1: (4, -100.0)}
    made.store.set("beat/1", "4")
    made.beat()
    assert made.signs == {1: (4, -100.0)} and made.store["beat/0"] == "1"
    made.store.set("beat/1", "5")
    made.beat()
    assert made.signs[1][0] == 5 and made.signs[1][1] > 0 and made.store["beat/0"] == "2"


def test_without_proc_a_process_is_asked_by_a_signal_that_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Absent:
        def __init__(self, _: str) -> None: ...

        def read_text(self) -> str:
            raise FileNotFoundError

        def exists(self) -> bool:
            return False

    def kill(pid: int, signum: int) -> None:
        assert signum == 0
        if pid == 2:
            raise ProcessLookupError

    monkeypatch.setattr(peers, "Path", Absent)
    monkeypatch.setattr(peers.os, "kill", kill)
    assert peers.runs(1) and not peers.runs(2)


@pytest.mark.parametrize(("gpu", "backend"), [(True, "nccl"), (False, "gloo")])
def test_a_group_is_opened_once_by_what_the_device_speaks(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, backend: str
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(connection.dist, "init_process_group", lambda name, **_: opened.append(name))
    monkeypatch.setattr(connection.dist, "PrefixStore", lambda prefix, store: prefix)
    monkeypatch.setattr(connection.torch.cuda, "set_device", lambda number: opened.append(f"cuda {number}"))
    made = connection.Connection(others(1))
    made.open(gpu)
    made.open(gpu)
    assert opened == (["cuda 0"] if gpu else []) + [backend] and made.is_open


def test_ctrl_c_is_signal_two_to_the_others() -> None:
    found = Outcome.of(1, KeyboardInterrupt())
    assert isinstance(found.error, Interrupted) and found.error.signum == signal.SIGINT and not found.bug


def test_a_sweep_is_of_one_process() -> None:
    refuse_sweep(environment={})
    refuse_sweep(environment={"WORLD_SIZE": "1"})
    with pytest.raises(ConfigError, match="hydra.launcher.processes=2"):
        refuse_sweep(environment={"WORLD_SIZE": "2"})
    assert only_cpu("cuda", {}) is False


def test_what_another_process_writes_is_given_to_it_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    given: list[str] = []
    tensors = {name: torch.zeros(size) for name, size in (("a", 1), ("b", 3), ("c", 1))}
    names = {id(value): name for name, value in tensors.items()}
    monkeypatch.setattr(tensor_files, "whole", lambda value: given.append(names[id(value)]))
    monkeypatch.setattr(tensor_files, "MOST", 8)
    tensor_files.hand_over(tensors)
    assert given == ["a", "b", "c"]


def test_a_process_that_has_ended_and_was_not_waited_for_does_not_run() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not peers.runs(child)
    os.waitpid(child, 0)
    assert not peers.runs(child) and peers.runs(os.getpid())
