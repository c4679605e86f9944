"""What a run will cost: a line through timed batches, scaled to a run, and the files that it will leave."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftrun.commands._studies.settings import composed
from ftrun.experiments.planning import outlook
from ftrun.experiments.study import costing
from ftrun.experiments.study.cost import Line, Timing
from ftrun.experiments.study.costing import costs_of, seconds, timing
from ftrun.experiments.study.summary import line_of, total_of
from ftrun.reports.numbers import roughly

PLANTED = Timing(
    start=3.0, phases=[(0, 0.5), (10, 1.0)], batch=2.0, rows=100,
    splits={"train": 1.0, "validation": 4.0, "test": 5.0}, saving=0.5, export=2.0, passes=7.0, features=6.0,
    memory=10**9, disk=10**8,
)  # fmt: skip


def test_a_line_through_batches_neither_falls_nor_begins_below_zero() -> None:
    line = Line.through([10, 20, 40], [0.3, 0.5, 0.9])
    assert (line.fixed, line.each) == (pytest.approx(0.1), pytest.approx(0.02))
    assert line.of([10, 30]) == pytest.approx(0.3 + 0.7)
    assert Line.through([10, 20], [0.4, 0.2]) == Line(pytest.approx(0.3), 0.0)
    assert Line.through([10, 20], [0.0, 1.0]).fixed == pytest.approx(0.0)
    assert Line.through([8, 8], [1.0, 3.0]) == Line(2.0, 0.0)


def settings_of(words: list[str], *more: str) -> Any:
    (way,) = outlook({"way": composed([*words, *more])}).ways
    return way


def test_a_timing_is_scaled_to_steps_evaluations_and_phases(toy_words: list[str]) -> None:
    way = settings_of(toy_words, "train.max_steps=30", "train.eval_every=10", "baselines=false")
    cost = PLANTED.cost(way.settings)
    assert cost.train == 10 * 1.0 + 20 * 2.0  # until step 10 a step takes half as long
    assert cost.evaluate == 3 * (4.0 + 0.5) and cost.end == 5.0 + 1.0 + 2.0
    assert cost.seconds == 3 + 50 + 13.5 + 8
    longer = replace(way.settings, train=replace(way.settings.train, max_steps=60))
    assert PLANTED.cost(longer).train == cost.train + 60
    assert total_of({"a": cost}, {"a": 4}, 10.0) == "about 5 min, disk 400 MB"  # 10 + 6 + 4 · 74.5
    long = {"a": replace(cost, end=60.0)}
    assert total_of(long, {"a": 4}, 10.0) == "about 9 min, disk 400 MB"  # 10 + 6 + 4 · 126.5
    assert total_of(long, {"a": 4}, 10.0, trials={"a": 3}) == "about 6 min, disk 400 MB"  # less 3 · 60
    told = line_of(cost, way, ready=10.0)
    assert told.startswith("about 90 s a run (10 s until training begins, 30 steps 50 s, 3 evaluations 10 s")
    assert told.endswith("memory 1 GB; disk 100 MB")


def test_a_head_that_is_solved_for_takes_one_pass(toy_words: list[str]) -> None:
    way = settings_of(toy_words, "strategy=linear_probe", "baselines=false")

    class Solved(type(way.settings.strategy)):  # type: ignore[misc]
        solved = True

    way.settings.strategy.__class__ = Solved
    cost = PLANTED.cost(way.settings)
    assert (cost.train, cost.evaluate) == (PLANTED.passes - PLANTED.features, 0.5)
    assert "solving " in line_of(cost, replace(way, length=None), 0.0)


def test_the_files_of_a_run_are_foretold_and_none_are_left(
    toy_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftrun.experiments import making

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    words = [*toy_words, "train.max_steps=4", "train.eval_every=2", "baselines=false"]
    for strategy in ("full", "gradual_unfreeze"):
        raw = composed([*words, f"strategy={strategy}"])
        (way,) = outlook({strategy: raw}).ways
        found = timing(way.settings, way.data.read)
        assert not list(tmp_path.iterdir())
        making.one(raw, tmp_path / strategy, again=False)
        disk = sum(file.stat().st_size for file in (tmp_path / strategy).rglob("*") if file.is_file())
        assert found.disk == pytest.approx(disk, rel=0.05)
        assert found.rows == json.loads((tmp_path / strategy / "result.json").read_text())["rows"]["train"]
        assert len(found.phases) > 1 or strategy == "full"
        (tmp_path / strategy).rename(tmp_path.parent / f"{tmp_path.name}-{strategy}")


def test_a_sigterm_while_it_is_timed_leaves_no_files(
    ftrun_inprocess: Any, toy_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*given: Any) -> None:
        assert list(tmp_path.iterdir())
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(costing, "begun", begun)
    result = ftrun_inprocess("plan", *toy_words, "--strategies", "full", check=False)
    assert (result.returncode, result.stderr) == (143, "ftrun: terminated\n")
    assert not list(tmp_path.iterdir()) and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_ways_of_a_kind_are_timed_once(toy_words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []
    monkeypatch.setattr(
        "ftrun.experiments.study.costing.timing", lambda settings, data: timed.append(settings) or PLANTED
    )
    words = [*toy_words, "train.max_steps=30", "baselines=false"]
    kinds = {
        f"{strategy} {rate}": composed([*words, f"strategy={strategy}", f"train.lr={rate}"])
        for strategy in ("full", "linear_probe")
        for rate in (1e-4, 1e-3)
    }
    assert len(costs_of(outlook(kinds).ways)) == 4 and len(timed) == 2


def test_a_call_is_repeated_unless_it_takes_long() -> None:
    calls: list[int] = []
    seconds(lambda: calls.append(1), 3)
    assert len(calls) == 3
    seconds(lambda: calls.append(1), 3, until=0.0)
    assert len(calls) == 4


def test_times_that_are_estimates_are_round() -> None:
    assert [roughly(value) for value in (1, 44, 94, 360, 9000)] == ["10 s", "40 s", "90 s", "6 min", "2.5 h"]
