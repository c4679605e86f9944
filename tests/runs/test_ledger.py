"""A ledger: a file for each key, whole or absent, of which a damaged one costs one run."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ftrun.runs import files, ledger
from ftrun.runs.ledger import FORMER, Ledger, key_of, study_of

GOOD = {"key": "a", "run": "0-full", "state": "finished", "message": ""}


def finished(directory: Path, name: str) -> Path:
    place = directory / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "result.json").write_text("{}")
    return place


def test_it_forgets_what_was_deleted_and_sees_what_others_write(tmp_path: Path) -> None:
    early, key, place = Ledger(tmp_path), key_of({"seed": 0}), tmp_path / "runs" / "a"
    assert key != key_of({"seed": 1}) and early.entry(key) is None and study_of(place / "model") is None
    Ledger(tmp_path).write(key, place, "finished")
    assert early.place_of(key) is None  # there is no run
    finished(tmp_path, "runs/a")
    assert early.place_of(key) == place and early.ended(place) and study_of(place / "model") == tmp_path
    early.write("other", finished(tmp_path, "b"), "finished")
    assert early.ended(tmp_path / "b") and not early.ended(tmp_path / "c")


def test_what_is_finished_stays_so_and_messages_are_short(tmp_path: Path) -> None:
    known, place = Ledger(tmp_path), finished(tmp_path, "a")
    known.write("key", place, "failed", "x" * 20_000)
    assert len(known.entry("key")["message"]) == 500  # type: ignore[index]
    known.write("key", place, "finished")
    known.write("key", tmp_path / "b", "failed", "of another process")
    assert known.place_of("key") == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "its content is [1], not"),
        ("null", "its content is"),
        ("{}", "key is missing"),
        ('{"key": "a", "run": 3, "state": "finished"}', "run is 3, not a string"),
        ('{"key": "other", "run": "0-full", "state": "finished"}', "its key is other"),
        ('{"key": "a", "ru', "is damaged: "),
    ],
)
def test_what_is_damaged_is_said_once_and_counts_as_none(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Ledger(tmp_path)
    for key in ("a", "b"):
        known.write(key, finished(tmp_path, key), "finished")
    (tmp_path / "ledger" / "a.json").write_text(text)
    assert known.place_of("a") is None and known.place_of("a") is None
    assert [entry["key"] for entry in known.entries()] == ["b"]
    told = capsys.readouterr().out
    assert f"warning: {tmp_path}/ledger/a.json is damaged: " in told and told.count("warning") == 1
    assert said in told
    known.write("a", tmp_path / "a", "finished")
    assert known.place_of("a") == tmp_path / "a"


def test_the_file_of_earlier_versions_counts_until_a_key_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps(GOOD), "{", "[1]", json.dumps(GOOD | {"key": "b", "state": "failed"}), '{"key": "c"']
    former = "\n".join(lines)
    (tmp_path / FORMER).write_text(former)
    known = Ledger(tmp_path)
    assert known.place_of("a") is None
    finished(tmp_path, "0-full")
    assert known.place_of("a") == tmp_path / "0-full"
    assert [entry["key"] for entry in known.entries()] == ["a", "b"]
    told = capsys.readouterr().out
    assert (
        f"line 2 of {tmp_path}/{FORMER} is damaged" in told and "line 3 of" in told and "line 5" not in told
    )
    known.write("b", finished(tmp_path, "1-full"), "finished")
    assert Ledger(tmp_path).place_of("b") == tmp_path / "1-full"
    assert (tmp_path / FORMER).read_text() == former


def test_one_key_of_ten_thousand_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither other entries nor their names are."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number}.json").write_text(json.dumps(GOOD | {"key": str(number)}))
    finished(tmp_path, "0-full")
    honest, read = ledger.read_object, []
    monkeypatch.setattr(ledger, "read_object", lambda path: (read.append(path), honest(path))[1])
    looked: list[Any] = []
    names = os.listdir

    def listed(path: Any) -> list[str]:
        looked.append(path)
        return names(path)

    monkeypatch.setattr(os, "listdir", listed)
    known = Ledger(tmp_path)
    assert known.place_of("7") and known.place_of("none") is None
    known.write("new", tmp_path / "0-full", "finished")
    assert [path.name for path in read] == ["7.json", "none.json"] and folder not in looked


def test_what_a_killed_writer_left_goes_with_the_next_of_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, place = Ledger(tmp_path), finished(tmp_path, "a")
    known.write("b", place, "finished")
    for key in ("a", "b"):
        (tmp_path / "ledger" / ".new" / f"{key}.17").write_text("{")
    known.write("a", place, "finished")
    assert [path.name for path in (tmp_path / "ledger" / ".new").iterdir()] == ["b.17"]


def test_writers_of_one_key_leave_a_whole_entry(tmp_path: Path) -> None:
    """Though each removes what the others are about to rename."""
    place, texts = finished(tmp_path, "a"), ["x" * 400, "y" * 300]

    def write(text: str) -> None:
        for _ in range(40):
            Ledger(tmp_path)._replace("key", files.as_json(GOOD | {"key": "key", "message": text}))

    threads = [threading.Thread(target=write, args=(text,)) for text in texts for _ in range(2)]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        if (entry := Ledger(tmp_path).entry("key")) is not None:
            seen.add(entry["message"])
    assert seen <= {*texts} and place.is_dir() and not any((tmp_path / "ledger" / ".new").iterdir())
