"""A report of many runs: what it keeps of each is small, and no step looks at each pair of ways."""

from __future__ import annotations

import io
import json
import re
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from finished import finished
from hypothesis import given
from hypothesis import strategies as st

from ftrun.commands.report import main
from ftrun.reports import numbers
from ftrun.reports import study as studies_of
from ftrun.reports.answers import Answered, Shelf, in_turn, packed, unpacked
from ftrun.reports.groups import _chosen, groups_of
from ftrun.reports.mistakes.labels_in_doubt import _means_by_name, means_of
from ftrun.reports.pages import page
from ftrun.reports.pages.terminal import _in_a_pipe, _table
from ftrun.reports.statistics.pareto import dominating
from ftrun.reports.statistics.seeds import Runs
from ftrun.reports.statistics.significance import estimate
from ftrun.reports.table import rows_of
from ftrun.runs.console import Console
from ftrun.runs.content import answers_of

ROWS = 150
KEPT = 45_000  # bytes of a run of 150 rows at most; its lines as dicts are 300,000


def with_probabilities(path: Path) -> None:
    """Each line of predictions.jsonl with ten probabilities, a text and a place, as those of real runs."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        sure = round(line["probability"], 6)
        rest = {f"label {n}": round((1 - sure) / 9, 6) for n in range(9)}
        line |= {"probabilities": {line["answer"]: sure} | rest, "text": f"row {line['row']}"}
        line |= {"file": "rows.csv", "file_row": line["row"] + 1000}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_takes_little_memory(tmp_path: Path) -> None:
    for number in range(24):
        run = finished(tmp_path / f"{number}", "lora", number % 2, rank=1 + number // 2, items=ROWS)
        with_probabilities(run.path / "predictions.jsonl")
    kept = []
    tracemalloc.start()
    try:
        for count in (4, 24):
            held = groups_of(rows_of([str(tmp_path / str(number)) for number in range(count)]))
            kept.append(tracemalloc.get_traced_memory()[0])
            (group,) = held[0]
            assert len(group.studies) == count // 2
            assert all(each.answered.probabilities for study in group.studies for each in study.tried)
            tracemalloc.reset_peak()
            del held, group
    finally:
        tracemalloc.stop()
    assert kept[1] - kept[0] < 20 * KEPT


ANSWERS: list[list[Any]] = [
    ["a", "b", "a"],
    [["a"], [], ["a", "b"]],
    [1.5, float("inf"), -2.0],
    ["a", None, 3],
]


@pytest.mark.parametrize("answers", ANSWERS)
@pytest.mark.parametrize("digits", [6, 17])
def test_what_is_kept_is_what_was_written(tmp_path: Path, answers: list[Any], digits: int) -> None:
    each = [{"a": round(1 / 3, digits), "b": 0.125}, {"b": round(1 / 7, digits)}, {"a": 1.0, "c": 0}]
    lines = [
        {"row": n, "label": answer, "answer": answer, "probability": 0.1 * n, "probabilities": own,
            "file": "a.csv", "file_row": 7 * n, "text": "x", "slices": {"genre": "news"}}
        for n, (answer, own) in enumerate(zip(answers, each, strict=True))
    ]  # fmt: skip
    shelf = Shelf()
    found, other = shelf.put(lines), shelf.put(json.loads(json.dumps(lines)))
    assert found.items is other.items and found.of_labels
    assert [*found.answers] == found.items.labels == answers
    assert found.probabilities and found.probabilities.rows == each
    assert found.probability and [*found.probability] == [0.1 * n for n in range(3)]
    assert found.items.names == [repr(("a.csv", 7 * n)) for n in range(3)]
    assert found.items.slices == {"genre": ["news"] * 3}
    whole = in_turn([found, other])
    assert len(whole) == 6 and [*whole.answers] == whole.items.labels == answers + answers
    assert whole.probabilities and whole.probabilities.rows == each + each
    changed = shelf.put([lines[0] | {"row": 9}, *lines[1:]], keep=False)
    assert changed.items.key != found.items.key and changed.of_labels and changed.probabilities is None


def test_a_row_without_probabilities_is_one() -> None:
    line = {"label": "a", "answer": "a"}
    for odd in ({}, {"probabilities": {}}, {"probabilities": {"a": None}}, {"probabilities": [0.5]}):
        found = Shelf().put([line | {"probabilities": {"a": 1.0}}, line | odd])
        assert not found.of_labels and found.probabilities is None and found.probability is None


@given(st.lists(st.integers(0, 1_000_000), min_size=1))
def test_six_decimals_take_four_bytes(places: list[int]) -> None:
    values = numpy.array([place / 1e6 for place in places])
    small = packed(values)
    assert small.dtype == numpy.float32 and (unpacked(small) == values).all()


def test_means_of_equal_and_of_other_labels_agree() -> None:
    shelf, chance = Shelf(), numpy.random.default_rng(0)
    runs = []
    for _ in range(3):
        shares = chance.dirichlet([1.0, 1.0], 6).round(6)
        lines = [{"label": "a", "answer": "a", "probabilities": dict(zip("ab", own, strict=True))} for own in
            shares.tolist()]  # fmt: skip
        runs.append(shelf.put(lines).probabilities or pytest.fail())
    tests = [[0, 3], [1], [2, 4, 5]]
    fast, plain = means_of(runs, tests), _means_by_name(runs, tests)
    for one, other, places in zip(fast, plain, tests, strict=True):
        expected = numpy.mean([each.rows[at]["a"] for each in runs for at in places])
        assert one == pytest.approx(other, abs=1e-15) and one["a"] == pytest.approx(expected)


CELLS = st.text("ab é日[]:\x1b¦", max_size=6).map(str.strip)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS).map(list), min_size=1, max_size=5))
def test_a_table_in_a_pipe_is_that_of_rich(rows: list[list[str]]) -> None:
    columns, file = [("run", False), ("test", True), ("x", True)], io.StringIO()
    Console(file=file, width=500).print(_table(columns, rows, [""] * len(rows)))
    assert _in_a_pipe(columns, rows) == re.sub(r" +(?=\n)", "", file.getvalue())


def test_a_long_list_is_cut_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in range(1, 6):
        finished(tmp_path / f"{rank}", "lora", rank=rank, accuracy=0.5 + rank / 50, over=True, items=60)
    main([str(tmp_path), "--format", "markdown"])
    whole = capsys.readouterr().out
    assert "not told here" not in whole
    monkeypatch.setattr(numbers, "MOST", 2)
    monkeypatch.setattr(page, "MOST", 2)
    main([str(tmp_path), "--format", "markdown"])
    cut = capsys.readouterr().out
    assert cut.count("* 8 more are not told here") == 1 and cut.count("* 3 more are not told here") == 2
    new = {*cut.splitlines()} - {*whole.splitlines()}
    assert all("not told here" in line for line in new)


def calls(job: Callable[[], object]) -> int:
    """How many functions of Python are called."""
    count = 0

    def watch(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(watch)
    try:
        job()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("seeds", [1, 5])
def test_twice_as_many_ways_take_twice_the_work(seeds: int) -> None:
    chance = numpy.random.default_rng(0)

    def study(number: int) -> studies_of.Study:
        hits = chance.random((8, seeds)) < 0.5
        runs = Runs([*range(seeds)], hits.mean(0), (hits.sum(0) - hits) / 7)
        row = {"metric": "accuracy", "config": {"task": {"subset": None}}}
        tried: Any = [SimpleNamespace(row=row, tests={}, baseline=False)]
        facts = dict.fromkeys(("trained_parameters", "seconds", "memory_bytes", "forgetting"))
        return studies_of.Study(f"{number}", f"{number}", tried, runs, estimate(runs), facts)  # type: ignore[arg-type]

    def work(studies: list[studies_of.Study]) -> None:
        studies_of.pool_seeds(studies)
        pairs = studies_of.tested([(studies[0], other) for other in studies[1:]])
        dominating(SimpleNamespace(ways=studies, pairs=pairs, sign=1))  # type: ignore[arg-type]

    ways = [study(number) for number in range(160)]
    few, many = (calls(lambda n=n: work(ways[:n])) for n in (80, 160))  # type: ignore[misc]
    assert many < 2.2 * few


def test_answers_of_a_file_are_counted(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", items=12)
    assert len(Shelf().put(answers_of(run.path / "predictions.jsonl"))) == 12
    assert len(Answered(Shelf().put([{"label": "a", "answer": "b"}]).items, ["b"])) == 1


def test_pairs_are_counted_before_they_are_made() -> None:
    ways: list[Any] = [
        SimpleNamespace(baseline=False, untaught=False, config={"task": {}}) for _ in range(600)
    ]
    rival: Any = SimpleNamespace(baseline=True, config={"task": {}})
    few = _chosen(SimpleNamespace(studies=[*ways[:5], rival]))  # type: ignore[arg-type]
    assert len(few) == 11 and [pair[1] for pair in few].count(rival) == 1
    assert len(_chosen(SimpleNamespace(studies=[*ways[:6], rival]))) == 6  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        many = _chosen(SimpleNamespace(studies=[rival, *ways]))  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert many == [*((ways[0], other) for other in ways[1:]), (ways[0], rival)]
    assert peak < 1000 * len(ways)  # of all pairs it would be 20 times as much
