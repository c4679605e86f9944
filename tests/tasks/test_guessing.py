"""What a column is taken for: dates are no classes, however often each occurs."""

from __future__ import annotations

import datetime

import pytest

from ftrun.commands.init import network_of
from ftrun.tasks.guessing.columns import column_of
from ftrun.tasks.guessing.sources import guess


@pytest.mark.parametrize(
    "cells, said",
    [
        ([datetime.date(2024, 5, day) for day in (1, 2, 3)] * 3, "times"),
        (["2024-05-31", "2024-06-01T14:00"] * 5, "times"),
        (["31.05.2024", "1.6.24 14:00"] * 5, "other (dates that are not ISO, as 2024-05-31 is)"),
        (["5/31/2024 2:30 PM", "12/1/2024 11:05 AM"] * 5, "other (dates that are not ISO, as 2024-05-31 is)"),
        (["1.2.3", "2.0.1"] * 5, "classes (2: '1.2.3', '2.0.1')"),
        ([20240531, 20240601] * 5, "classes (2: '20240531', '20240601')"),
        ([*(f"word{number}" for number in range(900)), "two words"], "text (1 word a row)"),
    ],
)
def test_what_a_column_holds(cells: list, said: str) -> None:
    assert column_of("one", cells).line() == f"one: {said}"


@pytest.mark.parametrize("date", ["2024-05-{:02}", "{:02}.05.2024"])
def test_a_date_is_no_label(date: str, tmp_path) -> None:
    lines = [f"{date.format(1 + n % 9)};the cat ate {n} mice and more;{n % 2}" for n in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["when;what;good", *lines]))
    found = guess(str(tmp_path / "rows.csv"), {})
    assert (found.settings["text"], found.settings["label"], found.doubts) == ("what", "good", [])


def test_the_network_that_is_told_is_the_one_that_was_asked_for() -> None:
    assert network_of({"model": "tiny_bert"}, ["task.subset=9"]) == "model=tiny_bert"
    assert network_of({"model": "tiny_bert"}, ["model.name=a b"]) == "model.name=a b"
