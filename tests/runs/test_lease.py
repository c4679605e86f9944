"""Leases: one of several processes has what is in a directory, whatever they do at the same time."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftrun.errors import InUse
from ftrun.runs.leases import beats, holder, lease, process
from ftrun.runs.leases.lease import Lease
from ftrun.runs.leases.process import Process
from ftrun.runs.run import Run

FAR = Process("node7", "", "another boot", "", 4711, "17")  # of another machine
DEAD = Process(*process.surroundings(), 1 << 22, "17")  # of this one; its number is above all


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(lease, "WATCHED", 0.03)
    monkeypatch.setattr(lease, "LOOKS", 0.01)


def left(folder: Path, by: Process, silent: float = 0.0, number: int = 1, more: str = "") -> Path:
    """The lease of a process that does nothing about it."""
    about = {"token": f"of {by.number}", "process": vars(by), "folder": str(folder)}
    place = folder / f".lease-{number}"
    place.write_text(json.dumps(about) + "\n" + more)
    os.utime(place, (time.time() - silent,) * 2)
    return place


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    first = Lease(tmp_path, "run")
    with pytest.raises(
        InUse, match=rf"run is being made by process {os.getpid()} on .*\(last sign of life 0 s"
    ):
        Lease(tmp_path, "run")
    assert Lease(tmp_path, "other", "other.").ours  # another thing in the same directory
    first.release()
    second = Lease(tmp_path, "run")
    assert [name for name in files(tmp_path) if "other" not in name] == [".lease-2"]
    second.release(gone=True)
    second.release()
    assert not any(name.startswith(".lease") for name in files(tmp_path))


def test_one_that_is_let_go_of_is_given_back(tmp_path: Path) -> None:
    Lease(tmp_path, "run")
    assert Lease(tmp_path, "run").number == 2


@pytest.mark.parametrize(
    ("by", "silent", "more", "free"),
    [
        (DEAD, 0.0, "", True),
        (FAR, 100.0, "", False),
        (FAR, 130.0, "", True),
        (FAR, -100.0, "", False),
        (FAR, -3600.0, "", True),  # before the clock was set back
        (FAR, 0.0, "given back\n", True),
        (process.own(), 9999.0, "", False),  # a stopped process of this machine lives
        (process.own(), 0.0, "given back\n", True),
    ],
)
def test_whose_process_is_dead_is_taken_over(
    tmp_path: Path, by: Process, silent: float, more: str, free: bool
) -> None:
    left(tmp_path, by, silent, more=more)
    found = holder.holder(tmp_path)
    assert found is not None and found.lives is not free
    if free:
        assert Lease(tmp_path, "run").number == 2 and files(tmp_path) == [".lease-2"]
    else:
        with pytest.raises(InUse, match=f"process {by.number} on {by.host}"):
            Lease(tmp_path, "run")


def test_a_machine_that_has_started_anew_has_no_process_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "surroundings", lambda: ("node1", "id", "boot 2", "pids"))
    assert Process("node1", "id", "boot 1", "pids", 4, "1").lives() is False
    assert Process("node1", "", "boot 1", "pids", 4, "1").lives() is None
    assert Process("node2", "id", "boot 1", "pids", 4, "1").lives() is None  # a copy of its disk
    assert Process("node1", "id", "boot 2", "others", 4, "1").lives() is None  # in a container
    here = process.own()
    assert here.lives() and Process(*process.surroundings(), here.number, "1").lives() is False


def test_a_damaged_lease_is_anothers_until_it_is_silent(tmp_path: Path) -> None:
    (tmp_path / ".lease-3").write_text("")
    with pytest.raises(InUse, match="being made by another process"):
        Lease(tmp_path, "run")
    os.utime(tmp_path / ".lease-3", (time.time() - 200,) * 2)
    assert Lease(tmp_path, "run").number == 4


def test_a_copy_is_not_held_by_who_holds_the_original(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"seed": 0})
    shutil.copytree(run.path, tmp_path / "copy")
    copy = Run.open(tmp_path / "copy")
    assert run.state == "running" and copy.state == "interrupted"
    copy.hold()
    shutil.move(run.path, tmp_path / "moved")
    assert Run.open(tmp_path / "moved").state == "running"


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
def test_who_gives_a_sign_while_watched_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """As all do that waited for a file server, whose clock went on; the times may be by another clock."""
    place = left(tmp_path, FAR, 500.0 - ahead)
    monkeypatch.setattr(lease, "WATCHED", 10.0)
    monkeypatch.setattr(time, "sleep", lambda _: os.utime(place, (time.time() + ahead,) * 2))
    with pytest.raises(InUse, match="node7"):
        Lease(tmp_path, "run")


def test_signs_of_life_come_from_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "BEAT", 0.02)
    monkeypatch.setattr(beats, "_thread", None)
    before = threading.active_count()
    held = [Lease(tmp_path, "run", f"{number}.") for number in range(3)]
    for each in held:
        os.utime(each.path, (0, 0))
    assert threading.active_count() == before + 1
    until = time.monotonic() + 10
    while any(each.path.stat().st_mtime < 1 for each in held) and time.monotonic() < until:
        time.sleep(0.01)
    assert all(each.path.stat().st_mtime > 1 for each in held)
    for each in held:
        each.release()
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before


def taken_over(folder: Path, number: int) -> None:
    """What another machine does that found this one silent."""
    left(folder, FAR, number=number + 1)
    (folder / f".lease-{number}").unlink()


def test_who_has_lost_it_notices_and_changes_nothing(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"seed": 0})
    run.log({"step": 1})
    taken_over(run.path, 1)
    run.log({"step": 2})  # not asked at every line
    before = files(run.path)
    with pytest.raises(
        InUse, match=r"run was taken over by process 4711 on node7 \(last sign of life 0 s ago\)"
    ):
        run.write_json("result.json", {})
    with pytest.raises(InUse):
        run.keep()
    with pytest.raises(InUse):
        run.log({"step": 3})
    run.release()
    assert files(run.path) == before and len(run.metrics()) == 2 and not run.ours


def test_a_line_is_written_after_a_long_silence_only_if_nobody_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", {"seed": 0})
    monkeypatch.setattr(lease, "clock", lambda: time.monotonic() + 10**9)
    run.log({"step": 1})
    assert (run.path / ".lease-2").exists()
    monkeypatch.setattr(lease, "clock", lambda: time.monotonic() + 10**10)
    taken_over(run.path, 2)
    with pytest.raises(InUse, match="node7"):
        run.log({"step": 2})
    assert run.metrics() == [{"step": 1}]


def test_a_forked_process_neither_has_it_nor_gives_it_back(tmp_path: Path) -> None:
    mine = Lease(tmp_path, "run")
    child = os.fork()
    if child == 0:
        wrong = mine.ours
        mine.release(gone=True)
        mine.beat()
        os._exit(wrong)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mine.ours and files(tmp_path) == [".lease-1"]
    mine.renew()


def test_a_run_is_held_in_milliseconds(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"seed": 0})
    run.release()
    begun = time.process_time()
    for _ in range(20):
        run.hold()
        run.release()
    assert (time.process_time() - begun) / 20 < 0.02


class Player(threading.Thread):
    """A process that goes on to its next change or look when it is told to."""

    def __init__(self, play: Callable[[], Lease]) -> None:
        super().__init__(daemon=True)
        self.play, self.lease = play, None
        self.go, self.waits = threading.Semaphore(0), threading.Semaphore(0)
        self.early: list[int] | None = None  # the names that it is shown until it changes something
        self.over = False
        self.start()

    def run(self) -> None:
        self.go.acquire()
        try:
            self.lease = self.play()
        except InUse:
            pass
        finally:
            self.over = True
            self.waits.release()

    def step(self) -> None:
        self.go.release()
        self.waits.acquire()


def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change, and each look at the names, is a step of a player."""

    def turns(honest: Any, changes: bool = False, looks: bool = False) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            me = threading.current_thread()
            if isinstance(me, Player):
                me.waits.release()
                me.go.acquire()
                if changes:
                    me.early = None
                if looks and me.early is not None:
                    return me.early
            return honest(*args, **options)

        return call

    names = turns(holder.numbers, looks=True)
    monkeypatch.setattr(holder, "numbers", names)
    monkeypatch.setattr(lease, "numbers", names)
    monkeypatch.setattr(lease, "exclusive", turns(lease.exclusive, changes=True))
    monkeypatch.setattr(Path, "unlink", turns(Path.unlink, changes=True))
    monkeypatch.setattr(Process, "lives", lambda _: None)
    monkeypatch.setattr(lease, "WATCHED", 0.0)


def renewed(held: Lease, times: int) -> Lease:
    for _ in range(times):
        held.renew()
    return held


@pytest.mark.parametrize("late", [False, True])
def test_in_whatever_order_they_go_on_one_of_them_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Two that take over, and the one that was silent, which goes on before, between or after."""
    watched(monkeypatch)
    ends = set()
    for number in range(80):
        chance, place = random.Random(number), tmp_path / str(number)
        place.mkdir()
        silent = renewed(Lease(place, "run"), number % 2)
        os.utime(silent.path, (time.time() - 500,) * 2)
        owner = Player(lambda: renewed(silent, 2))  # noqa: B023
        takers = [Player(lambda: Lease(place, "run")) for _ in range(2)]  # noqa: B023
        for each in (owner, *takers):
            each.early = [silent.number] if late else None
        while waiting := [each for each in (owner, *takers) if not each.over]:
            chance.choice(waiting).step()
        has = [each for each in (owner, *takers) if each.lease is not None]
        assert len(has) == 1, number
        has[0].lease.renew()
        ends.add((owner, *takers).index(has[0]))
        assert len([name for name in files(place) if name.startswith(".lease")]) == 1
    assert ends == {0, 1, 2}
