"""`ftrun report --costs`: the phases of every run, summed over attempts and meant over the runs of a way."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from finished import finished

from ftrun.commands.report import main
from ftrun.errors import ConfigError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two seeds of full, one of which was resumed; one of lora; and one of an earlier version."""
    for name, strategy, seed, train in (("a", "full", 0, 2), ("b", "full", 1, 4), ("c", "lora", 0, 1)):
        run = finished(tmp_path / name, strategy, seed, items=20)
        run.log_time({"step": 10, "seconds": 99.0})  # is no phase
        run.log_time({"phase": "train", "seconds": train, "cpu_seconds": 0.5})
        run.log_time({"phase": "evaluate", "seconds": 3, "cpu_seconds": 1.0})
        run.log_time({"phase": "train", "seconds": train, "cpu_seconds": 0.5})
    finished(tmp_path / "old", "freeze", items=20)
    return tmp_path


def test_each_way_has_the_mean_of_its_runs_and_all_the_shares(place: Path, capsys) -> None:
    assert main([str(place), "--costs", "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| full | 2 | 6.0 s | 3.0 s | 9.0 s |" in lines  # train (4 + 8) / 2
    assert "| lora | 1 | 2.0 s | 3.0 s | 5.0 s |" in lines
    assert "| share of all | 3 | 60.9 % | 39.1 % | 100 % |" in lines  # 14 and 9 of 23
    assert "| full | 2 | 1.0 s | 1.0 s | 2.0 s |" in lines  # CPU
    assert any("1 run of an earlier version" in line for line in lines)


def test_csv_has_every_run_with_raw_numbers(place: Path, capsys) -> None:
    assert main([str(place), "--costs", "--format", "csv"]) == 0
    rows = {row["run"]: row for row in csv.DictReader(capsys.readouterr().out.splitlines())}
    row = rows[str(place / "b")]
    assert (row["train_seconds"], row["train_cpu_seconds"], row["evaluate_seconds"]) == ("8.0", "1.0", "3.0")
    assert row["data_seconds"] == "" and str(place / "old") not in rows


def test_the_terminal_and_a_page_show_both_tables(place: Path, tmp_path: Path, capsys) -> None:
    assert main([str(place), "--costs"]) == 0
    assert main([str(place), "--costs", "--output", str(tmp_path / "costs.html")]) == 0
    for text in (capsys.readouterr().out, (tmp_path / "costs.html").read_text(encoding="utf-8")):
        assert all(word in text for word in ("Wall time by phase", "CPU time by phase", "60.9 %"))


def test_what_cannot_be_shown_is_said(place: Path) -> None:
    with pytest.raises(ConfigError, match="no run in .*old has the times of its phases"):
        main([str(place / "old"), "--costs"])
    with pytest.raises(ConfigError, match="without --plots"):
        main([str(place), "--costs", "--plots", "x"])
