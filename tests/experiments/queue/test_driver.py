"""Whatever happens to workers, every run finishes once, and only what cannot be made is a failure."""

import random
import signal
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

from ftrun.errors import DiskFull, Interrupted
from ftrun.experiments.queue.driver import Driver
from ftrun.experiments.queue.here import Here
from ftrun.experiments.queue.job import (
    FAILED,
    FINISHED,
    FULL,
    IN_USE,
    KILLED,
    PAUSED,
    STOPPED,
    Event,
    Job,
    Packed,
    Place,
)
from ftrun.experiments.queue.telling import Telling
from ftrun.runs.ledger import Ledger
from ftrun.runs.run import CONFIG, METRICS, RESULT
from ftrun.training.pausing import Rung


@dataclass
class Acted:
    """An engine whose events are written beforehand: number → states, the last for ever; no training."""

    inside: ClassVar[bool] = False
    script: dict[int, list[str]]
    slots: int = 2
    busy: list[Job] = field(default_factory=list)
    starts: Counter[int] = field(default_factory=Counter)
    closed: int = 0
    stopped: bool = False

    def open(self, directory, jobs, expected):
        self.most = 0

    def workers(self):
        return self.slots

    def room(self):
        return self.slots - len(self.busy)

    def start(self, job):
        self.busy.append(job)
        self.most = max(self.most, len(self.busy))

    def wait(self, seconds):
        if not self.busy:
            return []
        job = self.busy.pop(0)
        if self.stopped:
            return [Event(job.number, STOPPED)]
        states = self.script.get(job.number, [FINISHED])
        state = states[min(self.starts[job.number], len(states) - 1)]
        self.starts[job.number] += 1
        if state == FINISHED:
            finish(job)
        return [Event(job.number, state, 0.5, message=f"why {state}")]

    def stop(self):
        self.stopped = True

    def close(self):
        self.closed += 1

    def describe(self):
        return "by nobody"


@pytest.fixture(autouse=True)
def sound(monkeypatch):
    """The settings of these runs are none that could be checked."""
    monkeypatch.setattr("ftrun.experiments.queue.driver.refusal", lambda raw, path: "")


def finish(job):
    job.path.mkdir(parents=True, exist_ok=True)
    (job.path / CONFIG).write_text("seed: 0\n")
    (job.path / METRICS).touch()
    (job.path / RESULT).write_text("{}")


def jobs(directory, count):
    return [
        Job(n, f"seed={n}", directory / f"{n}-full", f"key{n}", Packed.of({"seed": n}), Place())
        for n in range(count)
    ]


def driven(directory, engine, count=4, retries=3):
    telling = Telling()
    telling.expect(count)
    ledger = Ledger(directory)
    driver = Driver(engine, ledger, telling, retries)
    return driver, telling, driver.run(jobs(directory, count))


def test_all_are_made_and_noted_and_not_again(tmp_path, capsys):
    driver, telling, ended = driven(tmp_path, engine := Acted({}))
    assert {number: event.state for number, event in ended.items()} == dict.fromkeys(range(4), FINISHED)
    assert engine.most == 2 and engine.closed == 1 and telling.summary(tmp_path) == 0
    assert all(Ledger(tmp_path).place_of(f"key{n}") == tmp_path / f"{n}-full" for n in range(4))
    _, telling, _ = driven(tmp_path, again := Acted({}), 5)
    assert again.starts == {4: 1} and telling.finished == 5
    _, _, _ = driven(tmp_path, nothing := Acted({}), 5)
    assert not nothing.starts and nothing.closed == 0  # not even opened


def test_what_waits_is_not_looked_through_at_each_end_of_a_run(tmp_path):
    """Or a million runs would take a million times a million looks."""

    class Counted(deque):
        times = 0

        def __iter__(self):
            Counted.times += 1
            return super().__iter__()

    telling = Telling()
    telling.expect(30)
    driver = Driver(Acted({}), Ledger(tmp_path), telling, 0, waiting=Counted())
    assert len(driver.run(jobs(tmp_path, 30))) == 30 and Counted.times == 1  # as the engine is opened


def test_of_equal_runs_one_is_made(tmp_path):
    """seed=0,0: however many could be made at the same time."""
    one, other = jobs(tmp_path, 2)
    telling, ledger = Telling(), Ledger(tmp_path)
    driver = Driver(engine := Acted({}), ledger, telling, 0)
    ended = driver.run([one, replace(other, key=one.key)])
    assert engine.starts == {0: 1} and {event.state for event in ended.values()} == {FINISHED}
    assert not other.path.exists() and telling.finished == 2


def test_this_process_sleeps_while_others_make_what_is_left(monkeypatch):
    slept = []
    monkeypatch.setattr("ftrun.experiments.queue.here.time.sleep", slept.append)
    here = Here(Telling().board)
    here.ended = [Event(0, FINISHED)]
    assert here.wait(3.0) and not slept
    assert not here.wait(3.0) and slept == [3.0]


def test_a_killed_worker_is_a_run_that_goes_on_so_often_as_was_asked(tmp_path, capsys):
    script = {1: [KILLED, KILLED, FINISHED], 2: [KILLED]}
    driver, telling, ended = driven(tmp_path, engine := Acted(script), retries=2)
    assert engine.starts == {0: 1, 1: 3, 2: 3, 3: 1}
    assert ended[1].state == FINISHED and ended[2].state == KILLED
    assert telling.summary(tmp_path) == 1
    said = capsys.readouterr()
    assert said.out.count("it is taken up again (1 of 2)") == 2 and "3 of 4 runs finished" in said.out
    assert said.err == "ftrun: 1 run failed: why killed (run 2: seed=2)\n"


def test_a_failure_is_not_made_again_and_told_with_its_like(tmp_path, capsys):
    _, telling, _ = driven(tmp_path, engine := Acted({n: [FAILED] for n in range(6)}), 6)
    assert set(engine.starts.values()) == {1} and telling.summary(tmp_path) == 1
    assert capsys.readouterr().err == (
        "ftrun: 6 runs failed: why failed (run 0: seed=0; run 1: seed=1; run 2: seed=2; run 3: seed=3;"
        " and 2 more)\n"
    )


def test_a_reason_is_told_once_in_full(tmp_path, capsys):
    driven(tmp_path, Acted({n: [FAILED] for n in range(3)}), 3)
    lines = [line for line in capsys.readouterr().out.splitlines() if "failed" in line]
    assert [line.count("why failed") for line in lines] == [1, 0, 0]
    assert lines[2].endswith("seed=2 · failed as run 0 (seed=0)")


@pytest.mark.parametrize("wrong", [4, 3])
def test_what_cannot_be_made_is_known_before_anything_begins(tmp_path, monkeypatch, capsys, wrong):
    """Said once, with the number of runs: at once where others are made, else at the end alone."""
    reason = "seed=x: possible: a number"
    refusal = lambda raw, path: reason if raw["seed"] < wrong else ""  # noqa: E731
    monkeypatch.setattr("ftrun.experiments.queue.driver.refusal", refusal)
    _, telling, ended = driven(tmp_path, engine := Acted({}))
    assert {n for n, event in ended.items() if event.state == FAILED} == {*range(wrong)}
    assert [*engine.starts] == [*range(wrong, 4)] and engine.closed == (wrong < 4)
    assert telling.summary(tmp_path) == 1 and telling.board.pending.total() == 0
    said = capsys.readouterr()
    assert said.out.count(reason) == (wrong < 4) and said.err.count(reason) == 1
    assert said.err.startswith(f"ftrun: {wrong} runs failed: {reason} (run 0: seed=0; ")
    assert Ledger(tmp_path).entry("key0")["state"] == FAILED


def test_a_run_that_finished_after_its_driver_died_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ftrun.experiments.queue.places.agree", lambda one, other: one["seed"] != 2)
    monkeypatch.setattr("ftrun.experiments.queue.places.chosen", lambda raw: raw)
    monkeypatch.setattr("ftrun.runs.run.Run.settings", {"seed": 0})
    for job in (jobs(tmp_path, 3)[number] for number in (0, 2)):
        finish(job)
    _, telling, ended = driven(tmp_path, engine := Acted({}), 3)
    assert {*engine.starts} == {1, 2} and telling.finished == 3  # that of other settings is put aside
    assert "seed=0 · finished · already finished: " in capsys.readouterr().out
    assert Ledger(tmp_path).place_of("key0") == tmp_path / "0-full"
    assert Ledger(tmp_path).place_of("key2") == tmp_path / "2-full-key2"


def test_what_follows_from_a_run_begins_before_what_was_to_come_later(tmp_path):
    """By rank; a run that waits goes on where it is asked for without its rung."""
    first, second, *rest = jobs(tmp_path, 4)
    race = replace(first, wishes={"rungs": (Rung(0.5),)})
    begun, seen = [], []

    class Noted(Acted):
        def start(self, job):
            begun.append((job.number, job.may_wait))
            super().start(job)

    def following(job, event):
        seen.append((job.number, event.state))
        if event.state == PAUSED:
            return [replace(rest[0], rank=(0, 1)), replace(first, rank=(0, 0))]
        return []

    telling = Telling()
    telling.expect(4)
    ranked = [replace(race, rank=(0, 0)), replace(second, rank=(1,)), replace(rest[1], rank=(0, 2))]
    engine = Noted({0: [PAUSED, FINISHED]}, slots=1)
    ended = Driver(engine, Ledger(tmp_path), telling, 3, following).run(ranked)
    assert begun == [(0, True), (0, False), (2, False), (3, False), (1, False)]
    assert seen == [(0, PAUSED), *((n, FINISHED) for n in (0, 2, 3, 1))] and len(ended) == 4
    assert telling.finished == 4


def test_a_run_that_another_process_makes_is_no_failure(tmp_path, monkeypatch, capsys):
    """It is looked at later: the other may finish, or leave it."""
    monkeypatch.setattr("ftrun.experiments.queue.driver.LOOK", 0.0)
    _, telling, ended = driven(tmp_path, engine := Acted({0: [IN_USE, IN_USE, FINISHED]}))
    assert ended[0].state == FINISHED and engine.starts[0] == 3 and telling.summary(tmp_path) == 0


def test_what_another_driver_finished_meanwhile_is_not_made_again(tmp_path):
    """Two drivers on one directory share the work."""
    ledger = Ledger(tmp_path)

    class Other(Acted):
        def start(self, job):
            if job.number == 0:
                for other in jobs(tmp_path, 4)[2:]:
                    finish(other)
                    ledger.write(other.key, other.path, FINISHED)
            super().start(job)

    _, telling, _ = driven(tmp_path, engine := Other({}, slots=1))
    assert engine.starts == {0: 1, 1: 1} and telling.finished == 4


def test_a_full_disk_ends_the_sweep_at_once(tmp_path):
    with pytest.raises(DiskFull, match="why disk full"):
        driven(tmp_path, engine := Acted({1: [FULL]}, slots=3), 9)
    assert engine.stopped and engine.closed == 1 and 8 not in engine.starts


def test_a_signal_has_every_run_save_and_none_begin(tmp_path, monkeypatch):
    from contextlib import contextmanager

    caught = []

    @contextmanager
    def interruptions():
        yield caught

    class Signalled(Acted):
        def wait(self, seconds):
            events = super().wait(seconds)
            caught.append(15)
            return events

    monkeypatch.setattr("ftrun.experiments.queue.driver.interruptions", interruptions)
    with pytest.raises(Interrupted) as error:
        driven(tmp_path, engine := Signalled({}, slots=2), 9)
    assert error.value.exit_code == 143 and engine.stopped and engine.closed == 1
    assert Ledger(tmp_path).place_of("key0") is not None and Ledger(tmp_path).place_of("key1") is None


def test_ctrl_c_while_processes_end_leaves_none(tmp_path):
    class Closing(Acted):
        def close(self):
            for _ in range(self.slots):
                signal.raise_signal(signal.SIGINT)
                super().close()

    with pytest.raises(KeyboardInterrupt):
        driven(tmp_path, engine := Closing({}), 1)
    assert engine.closed == engine.slots and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_whatever_workers_do_every_run_finishes_once(tmp_path):
    """Many jobs, events drawn at random: none is lost, none is noted twice, the ledger is true."""
    draw = random.Random(0)
    script = {
        n: [*draw.choices([KILLED, IN_USE, STOPPED], k=draw.randrange(3)), FINISHED] for n in range(200)
    }
    from unittest import mock

    with mock.patch("ftrun.experiments.queue.driver.LOOK", 0.0):
        _, telling, ended = driven(tmp_path, engine := Acted(script, slots=7), 200)
    assert telling.finished == len(ended) == 200
    assert all(engine.starts[n] == len(script[n]) for n in range(200))


def test_settings_of_thousands_take_little_room_and_come_back():
    from ftrun.experiments.overrides import compose

    raw = compose(["strategy=lora"])
    first = Packed.of(raw)
    others = [raw | {"seed": n, "rank": 2 * n} for n in range(20)]
    small = [Packed.of(each, first) for each in others]
    assert [each.unpacked() for each in small] == others and first.unpacked() == raw
    assert all(len(each.content) < 300 and each.like is first.like for each in small)
