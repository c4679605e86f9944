from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from ftrun.data import docstrings
from ftrun.data.docstrings import CUTS, FEWEST_WORDS, chapters, clean, docstrings_in, normalise, prose, rows
from ftrun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty standard library; the real one's parse is put back afterwards."""
    parsed = docstrings._by_label
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(docstrings, "_by_label", parsed.__wrapped__)
    return tmp_path


@pytest.mark.slow
def test_classes_are_chapters_with_enough_examples() -> None:
    counts = Counter(row["label"] for split in CUTS for row in rows(split))
    assert set(counts) == set(chapters().values())
    assert 8 <= len(counts) <= 12
    if sys.version_info < (3, 12):  # later libraries lost modules, their counts differ
        whole = all(find_spec(name) is not None for name in ("idlelib", "lib2to3", "tkinter"))
        assert min(counts.values()) >= (150 if whole else 100)  # Debian's Python leaves modules out


def test_splits_are_stratified_and_disjoint() -> None:
    texts = {split: {normalise(row["text"]) for row in rows(split)} for split in CUTS}
    assert len(set().union(*texts.values())) == sum(len(rows(split)) for split in CUTS)
    per_class = {split: Counter(row["label"] for row in rows(split)) for split in CUTS}
    for label in per_class["train"]:
        whole = sum(counts[label] for counts in per_class.values())
        assert abs(per_class["train"][label] - 0.7 * whole) <= 1
        assert abs(per_class["test"][label] - 0.15 * whole) <= 1


def test_another_process_sees_the_same_split() -> None:
    program = (
        "from ftrun.data import docstrings\n"
        "print(*[row['module'] + row['name'] for row in docstrings.rows('test')])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [row["module"] + row["name"] for row in rows("test")]


def test_texts_are_long_enough_and_do_not_name_their_module() -> None:
    for row in rows("train"):
        words = row["text"].lower().replace(".", " ").split()
        assert len(row["text"].split()) >= FEWEST_WORDS
        assert row["module"].partition(".")[0].lower() not in words


@pytest.mark.slow
def test_reading_takes_seconds() -> None:
    began = time.process_time()
    docstrings._by_label.__wrapped__()
    assert time.process_time() - began < 20  # about 4 on a quiet machine


def test_the_caller_may_change_its_rows() -> None:
    rows("test")[0]["text"] = "gone"
    assert rows("test")[0]["text"] != "gone"


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ConfigError, match="no split 'tset'; did you mean 'test'.*train, validation, test"):
        rows("tset")


def test_a_python_without_sources_is_one_sentence(library: Path) -> None:
    with pytest.raises(DataError, match="source files") as caught:
        rows("train")
    assert "\n" not in str(caught.value)
    assert str(library) in str(caught.value)
    assert "task.train=FILE" in str(caught.value)


def test_repeats_and_short_texts_are_left_out(library: Path) -> None:
    text = "Return the sum of two numbers, each of which may be as large as memory allows"
    (library / "random.py").write_text(f'"""{text}."""\ndef one():\n    """{text.upper()}"""\n')
    (library / "fractions.py").write_text(
        f'def two():\n    """{text}!"""\ndef three():\n    """Too short."""\n'
    )
    found = [row for split in CUTS for row in rows(split)]
    assert [(row["module"], row["label"]) for row in found] == [("fractions", "numbers")]


def test_nothing_is_executed(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    file.write_text('"""Module."""\nraise SystemExit\nclass A:\n "Class."\n async def f(self):\n  "F."\n')
    assert list(docstrings_in(file)) == [("", "Module."), ("A", "Class."), ("A.f", "F.")]


def test_a_broken_file_has_no_docstrings(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_bytes(b'"""\xff"""\ndef (:\n')
    assert list(docstrings_in(tmp_path / "bad.py")) == []


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ("split(p) -> (head, tail)\n\nSplit a path.", "Split a path."),
        ("D.get(k[,d]) -> D[k] if k in D, else d.  d defaults to None.", "d defaults to None."),
        ("open(file, mode='r') -- Open a file", "Open a file"),
        ("add(a)\nadd(b, c=(1, 2))\n\nAdds things, see f(x) for more.", "Adds things, see f(x) for more."),
        ("Return a\n   list (or tuple).", "Return a list (or tuple)."),
    ],
)
def test_signatures_are_removed(doc: str, text: str) -> None:
    assert prose(doc) == text


def test_the_modules_own_name_is_removed() -> None:
    assert (
        clean("email.message: an email, as Message of emails.", "email.message")
        == ": an , as Message of emails."
    )
    assert clean("Decimal numbers by decimal.Decimal", "_pydecimal") == "Decimal numbers by decimal.Decimal"
    assert clean("Use asyncio.run, not Asyncio", "asyncio.runners") == "Use run, not"


def test_they_are_kept_for_the_next_process_until_a_source_changes(tmp_path, monkeypatch):
    source = tmp_path / "module.py"
    source.write_text("'''one'''")
    found, reads = {"text": [{"text": "été", "label": "text"}]}, []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(docstrings, "_modules", lambda library, table: iter([("module", source)]))
    monkeypatch.setattr(docstrings, "_read_sources", lambda library: reads.append(1) or found)
    read = docstrings._by_label.__wrapped__
    assert read() == read() == found and len(reads) == 1
    source.write_text("'''another'''")
    assert read() == found and len(reads) == 2
    for file in (tmp_path / "cache" / "ftrun" / "docstrings").iterdir():
        file.write_text("{torn")
    assert read() == found and len(reads) == 3


def test_a_cache_that_cannot_be_written_is_said_and_nothing_is_lost(tmp_path, monkeypatch, capsys):
    (tmp_path / "ftrun").write_text("a file where a directory should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(docstrings, "_modules", lambda library, table: iter([]))
    monkeypatch.setattr(docstrings, "_read_sources", lambda library: {"text": []})
    assert docstrings._by_label.__wrapped__() == {"text": []}
    assert "the docstrings are not kept for the next run" in capsys.readouterr().out
