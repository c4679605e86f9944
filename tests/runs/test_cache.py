"""A cache that many processes share: made once, by the first, and never taken from a reader."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ftrun.runs import cache
from ftrun.runs.leases import beats, lease
from ftrun.runs.leases.process import Process, surroundings


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WAIT", 0.01)


def asked(place: Path, made: list[str], keep: bool = True, gate: threading.Event | None = None) -> bytes:
    """What is kept at `place`, or is made now; as the users of the cache do it."""
    if place.exists():
        return place.read_bytes()
    with cache.making(place):
        if place.exists():
            return place.read_bytes()
        made.append(threading.current_thread().name)
        if gate is not None:
            gate.wait(10)
        if keep:
            with cache.made(place, 10**6) as beside:
                beside.write_bytes(b"x")
        return b"x"


def several(place: Path, made: list[str]) -> tuple[list[threading.Thread], threading.Event]:
    """Many that want it at once, of which the first is in the middle of making it."""
    gate = threading.Event()
    threads = [threading.Thread(target=asked, args=(place, made, True, gate)) for _ in range(6)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while not made and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(0.05)
    return threads, gate


def test_the_first_makes_it_and_the_others_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, made = tmp_path / "kind" / "key.ids", []
    threads, gate = several(place, made)
    assert len(made) == 1 and all(thread.is_alive() for thread in threads)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1 and [path.name for path in place.parent.iterdir()] == ["key.ids"]
    assert f"waiting for another process: {place} is being made by process" in capsys.readouterr().out


def test_where_nothing_can_be_kept_they_do_not_wait_for_one_another(tmp_path: Path) -> None:
    """Each for itself, at once, when the first has come to nothing."""
    place, first, inside = tmp_path / "key.ids", threading.Event(), threading.Barrier(5)
    made: list[str] = []

    def want() -> None:
        with cache.making(place):
            made.append("")
            if first.is_set():
                inside.wait(10)  # BrokenBarrierError where they come one by one
            else:
                first.wait(10)

    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.4)  # all wait
    assert len(made) == 1
    first.set()
    for thread in threads:
        thread.join(20)
    assert len(made) == 6 and not inside.broken and not any(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert asked(tmp_path / "file" / "key.ids", made, keep=False) == b"x"


def test_a_killed_maker_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, made = tmp_path / "key.ids", []
    dead = Process(*surroundings(), 1 << 22, "17")
    with monkeypatch.context() as patch:
        patch.setattr(lease, "own", lambda: dead)
        held = lease.Lease(tmp_path, "it", "key.ids.")
    (tmp_path / ".key.half").write_text("what it was writing")
    assert asked(place, made) == b"x" and len(made) == 1 and place.exists()
    os.utime(tmp_path / ".key.half", (0, 0))
    cache.make_room(place, 10**6)
    assert [path.name for path in tmp_path.iterdir()] == ["key.ids"] and not held.ours


def test_room_is_never_made_of_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who maps a file sets its time now and then, also where that is a file server's."""

    class Reader:
        def beat(self) -> None:
            os.utime(tmp_path / "a")

    for name in "abcd":
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (1000, 1000))
    (tmp_path / ".being-written").touch()
    monkeypatch.setattr(beats, "BEAT", 0.01)
    monkeypatch.setattr(beats, "_thread", None)
    reader = Reader()
    beats.begin(reader)
    until = time.monotonic() + 10
    while (tmp_path / "a").stat().st_mtime < 2000 and time.monotonic() < until:
        time.sleep(0.01)
    beats.end(reader)
    os.utime(tmp_path / "d")
    cache.make_room(tmp_path / "d", 150)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".being-written", "a", "d"]
