"""A slice that was planted is named, and where none was planted nothing is said."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished import finished

from ftrun.commands.report import main
from ftrun.reports.answers import columns_of
from ftrun.reports.groups import groups_of
from ftrun.reports.pages.console import console
from ftrun.reports.table import rows_of
from ftrun.reports.verdicts.slices import LEAST, of_rows, section, slices_in, tables
from ftrun.runs.lines import read_lines
from ftrun.runs.run import PREDICTIONS, Run
from ftrun.tasks.metrics.rescoring import scored

GENRES = ("news", "film", "mail", "song", "talk")


def rewritten(run: Run, change: Callable[[dict[str, Any], random.Random], None]) -> None:
    """The run with other predictions, and the result that they give."""
    file, chance = run.path / "predictions.jsonl", random.Random(run.path.name)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        change(line, chance)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run.read_json("result.json")
    result["test_accuracy"] = sum(line["label"] == line["answer"] for line in lines) / len(lines)
    (run.path / "result.json").write_text(json.dumps(result))


def turned(line: dict[str, Any]) -> None:
    line["answer"] = "b" if line["label"] == "a" else "a"


def sliced(line: dict[str, Any], chance: random.Random) -> None:
    row = line["row"]
    genre = "rare" if row < LEAST - 1 else GENRES[row % 5]
    line["slices"] = {"length": ("1–9 tokens", "10–20 tokens")[row % 2], "genre": genre}


def on_genre(genre: str, share: float) -> Callable[[dict[str, Any], random.Random], None]:
    """Of the genre this share is answered rightly."""

    def change(line: dict[str, Any], chance: random.Random) -> None:
        sliced(line, chance)
        if line["slices"]["genre"] == genre:
            line["answer"] = line["label"]
            if chance.random() >= share:
                turned(line)

    return change


def studies(place: Path, full: Any, lora: Any, other: Any = None) -> Path:
    for seed in range(3):
        rewritten(finished(place / f"full-{seed}", "full", seed, accuracy=0.8), full)
        rewritten(finished(place / f"lora-{seed}", "lora", seed, accuracy=0.92, rank=8), lora)
        rewritten(finished(place / f"probe-{seed}", "linear_probe", seed, accuracy=0.75), other or sliced)
    return place


def cells(path: Path) -> tuple[list[tuple[str, bool]], list[list[str]], list[str]]:
    (group,), _ = groups_of(rows_of([str(path)]))
    found = section(group)
    assert found is not None
    return found


def test_the_slices_of_a_column_part_the_rows_and_weigh_up_to_the_score(tmp_path: Path) -> None:
    run = finished(tmp_path / "a")
    rewritten(run, sliced)
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    for places in slices_in(columns_of(lines)).values():
        assert sorted(place for own in places.values() for place in own) == list(range(len(lines)))
        parts = [(len(own), of_rows(lines, own, "accuracy").score) for own in places.values()]  # type: ignore[union-attr]
        whole = sum(size * score for size, score in parts) / len(lines)
        assert whole == pytest.approx(run.read_json("result.json")["test_accuracy"])


def test_a_planted_slice_is_named(tmp_path: Path) -> None:
    columns, rows, lines = cells(studies(tmp_path, on_genre("news", 0.95), on_genre("news", 0.6)))
    assert columns[2:] == [("lora, best overall", True), ("best in the slice", True)]
    assert lines[0].startswith("lora is best overall, but on genre=news ")
    assert lines[1] == "7 slices tested, 14 tests, Holm-corrected"
    assert lines[2] == "not tested, fewer than 20 rows: genre=rare"
    assert sum("best overall, but" in line for line in lines) == 1
    (news,) = [row for row in rows if row[0] == "genre=news"]
    assert 50 < float(news[2].partition(" ")[0]) < 70
    assert news[3].startswith("full 9")
    assert [row[3] for row in rows if row[0] == "genre=film"] == ["the same"]


def test_without_one_nothing_is_said(tmp_path: Path) -> None:
    _, rows, lines = cells(studies(tmp_path, sliced, sliced))
    assert len(rows) == 8
    assert lines == [
        "no slice in which another way is significantly better than lora (7 slices tested, 14 tests,"
        " Holm-corrected)",
        "not tested, fewer than 20 rows: genre=rare",
    ]


def test_a_lead_by_chance_is_shown_and_not_claimed(tmp_path: Path) -> None:
    for name, own in (("full", {}), ("lora", {"rank": 8}), ("l", {"rank": 4})):
        strategy = name if name == "full" else "lora"
        rewritten(finished(tmp_path / name, strategy, accuracy=0.8, **own), sliced)
    _, rows, lines = cells(tmp_path)
    assert any(row[3] != "the same" for row in rows if row[0] != "genre=rare")
    assert lines[0].startswith("no slice in which another way is significantly better than ")


def test_small_slices_are_listed_and_not_tested(tmp_path: Path) -> None:
    _, rows, lines = cells(studies(tmp_path, on_genre("rare", 1.0), on_genre("rare", 0.0)))
    (rare,) = [row for row in rows if row[0] == "genre=rare"]
    assert rare[1:3] == [str(LEAST - 1), "0.0 %"] and rare[3] == "full 100.0 %"
    assert not any("best overall, but" in line for line in lines)


def test_many_small_slices_are_counted(tmp_path: Path) -> None:
    def many(line: dict[str, Any], chance: random.Random) -> None:
        line["slices"] = {"author": f"a{line['row'] % 40}"}

    *_, last = cells(studies(tmp_path, many, many, many))[2]
    assert last.startswith("not tested, fewer than 20 rows: author=a0, ") and last.endswith(", and 32 more")


def test_single_runs_have_intervals_that_hold_where_all_is_right(tmp_path: Path) -> None:
    rewritten(finished(tmp_path / "a", "full", accuracy=0.8), on_genre("news", 1.0))
    columns, rows, lines = cells(tmp_path)
    assert columns == [("slice", False), ("rows", True), ("full", True)] and len(lines) == 1
    (news,) = [row for row in rows if row[0] == "genre=news"]
    low = float(news[2].removeprefix("100.0 % (").partition(" ")[0])
    assert low == pytest.approx(100 * int(news[1]) / (int(news[1]) + 1.959964**2), abs=0.05)  # Wilson's


def test_slices_that_runs_cut_differently_are_left_out_and_said(tmp_path: Path) -> None:
    def other(line: dict[str, Any], chance: random.Random) -> None:
        sliced(line, chance)
        line["slices"]["length"] = ("1–5 tokens", "6–9 tokens", "10–20 tokens")[line["row"] % 3]

    _, rows, lines = cells(studies(tmp_path, other, sliced))
    assert not any(row[0].startswith("length") for row in rows) and len(rows) == 6
    assert lines[-1] == "not all runs have the same slices by length, so these are left out"


def test_runs_without_slices_have_no_section(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path / "a")
    assert main([str(tmp_path)]) == 0
    assert "Slices" not in capsys.readouterr().out


def test_a_run_s_page_marks_what_is_worse(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", accuracy=0.9)
    rewritten(run, on_genre("mail", 0.4))
    screen = console()
    with screen.capture() as captured:
        for table in tables(read_lines(run.path / PREDICTIONS), "accuracy"):
            screen.print(table)
    marked = [line.split()[0] for line in captured.get().splitlines() if "below overall" in line]
    assert marked == ["mail"]


def test_where_less_is_better_more_is_worse(tmp_path: Path) -> None:
    chance = random.Random(0)
    lines = []
    for row in range(200):
        spread = 5.0 if row % 4 == 0 else 1.0
        label = chance.gauss(0, 3)
        answer = label + chance.gauss(0, spread)
        where = {"source": "bad" if row % 4 == 0 else "good"}
        lines.append({"row": row, "label": label, "answer": answer, "slices": where})
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    screen = console()
    with screen.capture() as captured:
        for table in tables(read_lines(tmp_path / PREDICTIONS), "mae"):
            screen.print(table)
    found = {line.split()[0]: line for line in captured.get().splitlines() if line.strip()}
    assert "above overall" in found["bad"] and "above overall" not in found["good"]
    whole = scored("mae", [line["label"] for line in lines], [line["answer"] for line in lines])
    assert whole is not None and whole.score == pytest.approx(
        sum(abs(line["label"] - line["answer"]) for line in lines) / len(lines)  # type: ignore[operator]
    )


def numbers(run: Run) -> None:
    """A run of numbers, in whose second genre all texts are one and get one answer."""

    def change(line: dict[str, Any], chance: random.Random) -> None:
        label = random.Random(line["row"]).gauss(0, 3)
        alike = line["row"] % 2
        line |= {"label": label, "answer": 1.5 if alike else label + chance.gauss(0, 1)}
        line["slices"] = {"genre": ("other", "same")[alike]}

    rewritten(run, change)
    lines = read_lines(run.path / PREDICTIONS)
    whole = scored("pearson", [line["label"] for line in lines], [line["answer"] for line in lines])
    assert whole is not None
    run.write_json("result.json", run.read_json("result.json") | {"test_pearson": whole.score})


def test_a_correlation_that_is_not_defined_in_a_slice_is_not_shown_as_0(tmp_path: Path) -> None:
    for strategy in ("full", "lora"):
        numbers(finished(tmp_path / strategy, strategy, metric="pearson"))
    _, rows, lines = cells(tmp_path)
    assert rows[1][:3] == ["genre=same", "200", "undefined"] and "undefined" not in " ".join(rows[0])
    assert "not tested, undefined: genre=same" in lines and any("1 slice tested" in line for line in lines)
    screen = console()
    with screen.capture() as captured:
        for table in tables(read_lines(tmp_path / "full" / PREDICTIONS), "pearson"):
            screen.print(table)
    (same,) = [line for line in captured.get().splitlines() if "same" in line]
    assert same.split() == ["same", "200", "undefined"]
