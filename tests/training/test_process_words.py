"""What processes ask of the environment, of the store and of each other, with stand-ins for both."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import socket
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftrun.errors import ConfigError, DataError, Interrupted, UserError
from ftrun.runs import terminal, warm
from ftrun.training.processes import connection, launchers, peers, ranks, ring
from ftrun.training.processes.verdict import KILLED, Lost, Outcome, verdict

ENVIRONMENT = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "29"}


class Store(dict[str, Any]):
    """As torch's TCPStore, in this process."""

    made: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        self[key] = value.encode() if isinstance(value, str) else value

    def get(self, key: str) -> Any:
        return self[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)

    def add(self, key: str, count: int) -> int:
        self[key] = self.get_or(key, 0) + count
        return int(self[key])

    def get_or(self, key: str, other: Any) -> Any:
        return self[key] if key in self else other

    def wait(self, keys: list[str], longest: timedelta) -> None:
        assert longest == timedelta(minutes=10)
        for key in keys:  # the others say where they are
            self.setdefault(key, f"77 {Store.made['host']}".encode())


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the store was opened with, by a process with the environment that torchrun gives it."""
    made: dict[str, Any] = {"host": "another machine"}

    class Tcp(Store):
        def __init__(self, *address: Any, **words: Any) -> None:
            made.update(words, address=address)

        def clone(self) -> str:
            return "a second connection"

    def prefixed(prefix: str, whole: Any) -> Any:
        made.setdefault("prefixes", []).append((prefix, whole if isinstance(whole, str) else "the first"))
        return Store()

    monkeypatch.setattr(Store, "made", made)
    monkeypatch.setattr("torch.distributed.TCPStore", Tcp)
    monkeypatch.setattr("torch.distributed.PrefixStore", prefixed)
    for name in ("TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.mark.parametrize(
    ("rank", "agent", "keeps"),
    [("0", "True", False), ("0", "", True), ("1", "", False), ("0", "False", True)],
)
def test_the_first_process_keeps_the_store_unless_torchrun_does(
    store: dict[str, Any], monkeypatch: pytest.MonkeyPatch, rank: str, agent: str, keeps: bool
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", agent)
    made = peers.Peers()
    assert store["is_master"] is keeps and store["address"] == ("here", 29, 2)
    assert store["timeout"] == timedelta(minutes=10) and store["wait_for_workers"] is False
    assert (made.rank, made.size) == (int(rank), 2)


def test_a_restarted_group_has_words_of_its_own_and_a_connection_for_each_thread(
    store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.Peers()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3")
    peers.Peers()
    assert store["prefixes"] == [
        ("ftrun/0", "the first"), ("ftrun/0", "a second connection"),
        ("ftrun/3", "the first"), ("ftrun/3", "a second connection"),
    ]  # fmt: skip


def test_a_process_of_this_machine_has_a_number_and_one_of_another_gives_signs(store: dict[str, Any]) -> None:
    made = peers.Peers()
    assert made.pids == {1: os.getpid()} and [*made.signs] == [0] and made.signs[0][0] == -1
    assert made.store["place/1"].decode() == f"{os.getpid()} {made.host}"
    assert made.host == f"{socket.gethostname()} {peers.boot()}"
    store["host"] = made.host
    same = peers.Peers()
    assert same.pids == {0: 77, 1: os.getpid()} and same.signs == {}
    same.beat()
    assert "beat/1" not in same.second  # the system says who is gone
    made.beat()
    made.beat()
    assert made.second["beat/1"] == b"2"


def test_who_is_silent_for_a_minute_is_gone_and_so_is_who_has_ended(
    store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = peers.Peers()
    start = made.signs[0][1]
    for later, gone in ((59.0, set()), (61.0, {0})):
        monkeypatch.setattr(peers.time, "monotonic", lambda later=later: start + later)
        assert made.gone() == gone
    monkeypatch.setattr(peers, "runs", lambda pid: pid != os.getpid())
    assert made.gone() == {0, 1}


def test_looks_become_rarer_up_to_twice_a_second(
    store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(peers.time, "sleep", slept.append)
    made = peers.Peers()
    monkeypatch.setattr(made, "gone", lambda: set())
    ready = itertools.chain([False] * 24, itertools.repeat(True))
    assert sorted(made.until(lambda peer: next(ready))) == [0, 1]
    assert slept[:3] == pytest.approx([0.005, 0.01, 0.02]) and slept[-1] == slept[-2] == 0.5


def test_who_is_gone_is_asked_once_more_whether_it_was_ready(store: dict[str, Any]) -> None:
    made = peers.Peers()
    made.gone = lambda: {0}  # type: ignore[method-assign]
    assert [*made.until(lambda peer: True)] == [0, 1]
    assert [*made.until(lambda peer: peer == 1)] == [1]


def joined(rank: int = 0, size: int = 2) -> Any:
    """A ring with a store in memory, whose others are there."""
    made: Any = ring.Ring.__new__(ring.Ring)
    own = Store()
    near = SimpleNamespace(
        store=own, second=own, rank=rank, size=size, gone=lambda: set(), beat=lambda: None,
        until=lambda ready, ended=lambda: False: [peer for peer in range(size) if ready(peer)],
    )  # fmt: skip
    calls: list[str] = []
    link = SimpleNamespace(
        group=0, cut=lambda: calls.append("cut"), close=lambda: calls.append("close"), was_cut=False
    )
    vars(made).update(
        peers=near, connection=link, calls=calls, rank=rank, size=size, jobs=0, inside=False, settling=False,
        late=False, over=False, ended=None, own=False, places=[], message="", code=None,
        done=threading.Event(), watcher=threading.Thread(),
    )  # fmt: skip
    return made


def test_a_job_that_all_have_done_returns_what_it_made() -> None:
    made = joined()
    made.peers.store["outcome/1/1"] = pickle.dumps(Outcome.of(0, None))
    assert made.take_part(lambda a, b: a + b, (2, 3)) == 5
    assert made.jobs == 1 and not made.inside and made.ended is None and made.calls == []
    assert pickle.loads(made.peers.store["outcome/1/0"]) == Outcome(0, None, "", False)


def test_a_job_that_fails_here_is_told_cuts_the_group_and_raises_here() -> None:
    made = joined()
    made.peers.store["outcome/1/1"] = pickle.dumps(Outcome.of(2, Interrupted("cut", 2)))
    error = DataError("a wrong row")

    def fails() -> None:
        assert made.inside
        raise error

    with pytest.raises(DataError) as caught:
        made.take_part(fails, ())
    assert caught.value is error and made.own and made.calls == ["cut", "close"]
    assert made.peers.store["failed/0"] == b"" and made.peers.store["order/1"] == 1
    known = pickle.loads(made.peers.store["outcome/1/0"])
    assert (known.order, str(known.error), known.bug) == (1, "a wrong row", False)


def test_a_job_that_fails_in_another_raises_here_with_its_rank() -> None:
    made = joined()
    made.peers.store["outcome/1/1"] = pickle.dumps(Outcome.of(1, DataError("a wrong row")))
    with pytest.raises(DataError, match="^rank 1 of 2 processes: a wrong row$"):
        made.take_part(lambda: 5, ())
    assert not made.own and made.calls == ["close"] and "failed/0" not in made.peers.store


def test_where_a_process_is_gone_the_first_that_is_left_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    led: list[bool] = []
    monkeypatch.setattr(terminal, "lead", lambda: led.append(True))
    for rank, gone, speaks in ((1, {0}, True), (1, set(), False), (2, {0}, False), (2, {0, 1}, True)):
        made = joined(rank, 3)
        made.peers.gone = lambda gone=gone: gone
        led.clear()
        made.succeed()
        assert bool(led) is speaks
    made = joined(1)
    with pytest.raises(Lost, match="rank 0 of 2 processes was killed"):
        made.take_part(lambda: 5, ())
    assert made.over and made.calls == ["close"]


def test_the_next_job_is_waited_for_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    made = joined(1)
    made.jobs = 4

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 6:
            made.peers.store["job/5"] = pickle.dumps(("a", "b"))

    monkeypatch.setattr(ring.time, "sleep", sleep)
    assert made.following() == ("a", "b") and slept == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5])
    made.peers.store["end"] = pickle.dumps((0, ""))
    made.jobs = 5
    assert made.following() is None
    del made.peers.store["end"]
    made.peers.gone = lambda: {0}
    with pytest.raises(Lost, match="rank 0 of 2"):
        made.following()


def test_the_watch_cuts_a_group_of_a_job_that_failed_or_of_a_peer_that_is_gone() -> None:
    for failed, gone, group, cuts in (
        (True, set(), 0, True), (False, {1}, 0, True), (False, set(), 0, False), (True, {1}, None, False)
    ):  # fmt: skip
        made = joined()
        turns = iter([False, True])
        made.done = SimpleNamespace(wait=lambda seconds, turns=turns: next(turns))
        made.connection.group, made.peers.gone = group, lambda gone=gone: gone
        if failed:
            made.peers.store["failed/0"] = b""
        made.watch()
        assert made.calls == (["cut"] if cuts else [])


def test_a_process_whose_group_was_cut_ends_at_once_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    for code, cut in ((3, True), (3, False), (None, True)):
        made = joined()
        made.code, made.connection.was_cut = code, cut
        made.leave()
    assert ended == [3]


def test_a_group_waits_for_all_and_not_for_one_that_failed() -> None:
    near = SimpleNamespace(store=Store(), rank=0, size=2)
    near.until = lambda ready, ended: [peer for peer in range(2) if ready(peer) and not ended()]
    made: Any = connection.Connection(near)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="another process has failed"):
        made.meet()
    near.store.set("meet/0/1", "")
    made.meet()
    assert not made.ended() and near.store["meet/0/0"] == b""
    near.store.set("failed/0", "")
    assert made.ended()
    made.close()
    assert made.number == 1 and not made.ended() and made.group == 1
    made.is_cut = True
    assert made.ended() and made.group is None
    made.close()
    assert (made.number, made.is_open, made.is_cut, made.sockets) == (2, False, False, set())


def test_a_cut_shuts_down_the_group_s_sockets_that_are_still_open_and_no_others(
    socket_enabled: None,
) -> None:
    one, other = socket.socketpair()
    spared, beyond = socket.socketpair()
    try:
        made: Any = connection.Connection(SimpleNamespace(store=Store()))  # type: ignore[arg-type]
        made.sockets = {each for each in connection.sockets() if each[0] == one.fileno()}
        assert len(made.sockets) == 1
        made.cut()
        made.cut()
        assert made.is_cut and made.was_cut and other.recv(1) == b""  # the other end hears of it
        beyond.settimeout(0.01)
        with pytest.raises(TimeoutError):
            beyond.recv(1)
    finally:
        for each in (one, other, spared, beyond):
            each.close()


def test_what_came_first_is_what_all_end_with_and_the_lowest_rank_of_equals_tells_it() -> None:
    early, late = Outcome.of(1, DataError("early")), Outcome.of(2, UserError("late"))
    well = Outcome.of(0, None)
    assert verdict({0: well, 1: well}, [], 0, None) == (None, False)
    own = UserError("late")
    found, tells = verdict({0: late, 1: early, 2: well}, [], 0, own)
    assert isinstance(found, DataError) and not tells and str(found) == "rank 1 of 3 processes: early"
    same = UserError("same")
    both = {0: Outcome.of(2, same), 1: Outcome.of(1, UserError("same"))}
    assert verdict(both, [], 0, same) == (same, True)
    assert verdict(both, [], 1, same) == (same, False)
    lost, tells = verdict({1: early}, [0, 2], 1, None)
    assert isinstance(lost, Lost) and not tells and lost.exit_code == 128 + KILLED == 137
    assert str(lost).startswith("ranks 0 and 2 of 3 processes were killed (as by signal 9,")


class Odd(UserError):
    """An error of a task of one's own that cannot be pickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def test_an_error_is_told_as_it_is_as_a_bug_or_in_its_words() -> None:
    found = Outcome.of(3, ValueError("a  broken\nbatch"))
    assert found.bug and str(found.error) == "ValueError: a broken batch; see its traceback"
    assert found.text == "ValueError: a broken batch" and found.order == 3
    odd = Outcome.of(1, Odd("some words", "b"))
    assert type(odd.error) is UserError and str(odd.error) == odd.text == "some words" and not odd.bug


def test_several_processes_are_those_that_a_launcher_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, several in (("", False), ("1", False), ("2", True)):
        monkeypatch.setenv("WORLD_SIZE", size)
        assert terminal.several() is several
    monkeypatch.delenv("WORLD_SIZE")
    assert not terminal.several()


def test_a_job_is_handed_out_once_and_done_by_this_process_alone_within_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert ranks.leaderless() and not ranks.alone() and ranks.together(max, 2, 5) == 5
    made = joined()
    made.take_part = lambda call, args: ("taken", call(*args))
    monkeypatch.setattr(ranks, "_ring", made)
    monkeypatch.chdir(tmp_path)
    assert not ranks.leaderless() and ranks.alone()
    assert ranks.together(max, 2, 5) == ("taken", 5)
    _, place, sharing, what = pickle.loads(made.peers.store["job/1"])
    assert (place, sharing) == (str(tmp_path), warm.sharing()) and pickle.loads(what) == (max, (2, 5))
    made.inside = True
    assert not ranks.alone() and ranks.together(max, 2, 5) == 5


def test_the_line_that_goes_on_is_known_to_the_others_while_it_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = joined()
    monkeypatch.setattr(ranks, "_ring", made)
    monkeypatch.chdir(tmp_path)
    with ranks.continued_by("ftrun -m x"), ranks.continued_by("ftrun resume y", Path("y")):
        assert pickle.loads(made.peers.store["places"]) == [
            ("ftrun -m x", ""), ("ftrun resume y", str(tmp_path / "y"))
        ]  # fmt: skip
    assert pickle.loads(made.peers.store["places"]) == [] == made.places
    made.inside = True
    with ranks.continued_by("within a job"):
        assert made.places == []


def test_what_a_run_ends_with_is_what_its_job_did(monkeypatch: pytest.MonkeyPatch) -> None:
    error, other = DataError("own"), DataError("other")
    assert ranks.settled(error) is error
    made = joined()
    monkeypatch.setattr(ranks, "_ring", made)
    ranks.ending()
    assert made.over
    made.inside = True
    for found, expected in ((other, other), (None, error)):
        made.settled = lambda _, found=found: found
        assert ranks.settled(error) is expected
    made.inside = False
    made.peers.gone = lambda: {1}
    assert ranks.settled(error) is error  # no signal: nobody's going has to do with it
    assert str(ranks.settled(Interrupted("SIGTERM", 15))).startswith("rank 1 of 2 processes was killed")


def test_the_table_of_torchrun_and_the_others_hear_the_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = joined()
    monkeypatch.setattr(ranks, "_ring", made)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setattr(ranks.time, "time", lambda: 12.9)
    ranks.said("a wrong row")
    told = json.loads((tmp_path / "error.json").read_text())["message"]
    assert made.message == told["message"] == told["extraInfo"]["py_callstack"] == "a wrong row"
    assert told["extraInfo"]["timestamp"] == "12"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "gone" / "error.json"))
    ranks.said("again")  # a file that cannot be written fails nothing


@pytest.mark.parametrize(("codes", "end"), [([0], 0), ([3], 3), ([], 1)])
def test_the_first_tells_the_others_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, codes: list[int], end: int
) -> None:
    made = joined()
    ended: list[int] = []
    made.end = ended.append
    monkeypatch.setattr(ranks, "Ring", lambda: made)
    with ranks.leading() as told:
        assert ranks._ring is made
        told += codes
    assert ended == [end] and ranks._ring is None
    with pytest.raises(KeyError), ranks.leading():
        raise KeyError("a bug")
    assert ended == [end, 1] and made.message == "KeyError: 'a bug'"


@pytest.mark.parametrize("word", launchers.ON)
def test_what_is_on_is_said_in_any_case(word: str) -> None:
    for spelt in (word, word.upper(), word.title()):
        assert launchers.on({"A": spelt}, "A") and launchers.only_cpu("auto", {"ACCELERATE_USE_CPU": spelt})
        with pytest.raises(ConfigError, match="device=cuda:1, but ACCELERATE_USE_CPU="):
            launchers.only_cpu("cuda:1", {"ACCELERATE_USE_CPU": spelt})
    for spelt in ("", "0", "no", "false", "off"):
        assert not launchers.on({"A": spelt}, "A") and not launchers.on({}, "A")


@pytest.mark.parametrize(
    ("precision", "asked", "refused"),
    [
        ("no", "no", False),
        ("bf16", "BF16", False),
        ("bf16", "no", False),
        ("no", "fp16", True),
        ("fp16", "bf16", True),
    ],
)
def test_accelerate_s_precision_is_the_run_s_or_is_refused(precision: str, asked: str, refused: bool) -> None:
    environment = {"ACCELERATE_MIXED_PRECISION": asked}
    if refused:
        ours = "fp32" if precision == "no" else precision
        with pytest.raises(ConfigError, match=f"train.precision comes to {ours} here"):
            launchers.refuse_other_precision(precision, environment)
    else:
        launchers.refuse_other_precision(precision, environment)
    launchers.refuse_other_precision(precision, {})


@pytest.mark.parametrize("gone", ["ACCELERATE_USE_CPU", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"])
def test_a_lone_process_of_accelerate_launch_is_only_that_where_all_speaks_for_it(gone: str) -> None:
    whole = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "1", "MASTER_ADDR": "here"}
    with pytest.raises(ConfigError, match="accelerate launch was to start several processes"):
        launchers.refuse_environment(whole)
    launchers.refuse_environment({name: value for name, value in whole.items() if name != gone})
    launchers.refuse_environment(whole | {"RANK": "0"})


def test_processes_of_mpi_know_each_other_where_they_have_ranks() -> None:
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"):
        launchers.refuse_environment({name: "2", "RANK": "0"})
        with pytest.raises(ConfigError, match=f"{name}=2: MPI or srun started 2 processes"):
            launchers.refuse_environment({name: "2"})
