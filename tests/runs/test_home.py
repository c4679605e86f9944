"""The files that a run's settings name are found from any directory, and after a move."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ftrun.errors import DataError
from ftrun.runs.home import files_of, home_of, located, note, places_of, refuse_lost
from ftrun.runs.run import Run

CONFIG: dict[str, Any] = {
    "task": {"kind": "classify", "name": "d", "train": "d.csv", "validation": ["more/*.csv"], "test": None,
             "text": "text"},
    "model": {"name": "some/network"},
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which a run began; the current one is another."""
    place = tmp_path / "project"
    (place / "more").mkdir(parents=True)
    for file in ("d.csv", "more/v.csv", "text"):
        (place / file).touch()
    run = Run.create(place / "outputs" / "run", CONFIG)
    run.write_json("environment.json", {"directory": str(place), "run": str(run.path)})
    run.release()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return place


def test_where_it_began_counts_whatever_is_here(project: Path) -> None:
    Path("d.csv").touch()
    run = Run.open(project / "outputs" / "run")
    assert run.home == project
    task = run.settings["task"]
    assert (task["train"], task["validation"]) == (f"{project}/d.csv", [f"{project}/more/*.csv"])
    assert task["text"] == "text"  # a column, whatever file has its name
    assert run.settings["model"]["name"] == "some/network"  # not there: a name on the Hub
    assert note(run.path, run.home) == f"{run.path}: its files are those in {project}, where it began"


def test_there_nothing_changes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    run = Run.open("outputs/run")
    assert run.home == project and located(run.config, run.home) is run.config
    assert note(run.path, run.home) == ""


def test_moved_together_they_are_found_together(project: Path, tmp_path: Path) -> None:
    shutil.move(project, tmp_path / "moved")
    run = Run.open(tmp_path / "moved" / "outputs" / "run")
    assert run.home == tmp_path / "moved"


def test_a_run_of_before_and_one_whose_files_are_here_read_here(project: Path, tmp_path: Path) -> None:
    run = Run.open(project / "outputs" / "run")
    shutil.copytree(project / "more", "more")
    shutil.move(project / "d.csv", "d.csv")
    assert run.home == Path.cwd() and run.settings["task"]["train"] == "d.csv"
    (run.path / "environment.json").unlink()
    assert run.home == Path.cwd()
    assert places_of(run.path, {}) == [Path.cwd()]


def test_what_is_nowhere_is_said_with_where_it_was_looked_for(project: Path) -> None:
    run = Run.open(project / "outputs" / "run")
    refuse_lost(run.config, run.path, run.environment)
    (project / "d.csv").unlink()
    with pytest.raises(
        DataError, match=f"d.csv is neither in {project}, where the run began, nor in {Path.cwd()}"
    ):
        refuse_lost(run.config, run.path, run.environment)


def test_every_setting_that_names_files_is_known() -> None:
    config = {
        "task": {"train": ["a.csv", "hub:x:train"], "text": "column"}, "model": {"name": "m"},
        "sequence": [{"train": "b.csv"}, "mnist"], "source": {"kind": "pretraining", "text": "c.txt"},
        "compose": {"rows": "d.csv", "test": None, "text": {"train": "e.txt"}},
        "pretrain": {"name": "mlm", "task": {"train": "f.txt"}},
    }  # fmt: skip
    found = files_of(config)
    assert sorted(found) == ["a.csv", "b.csv", "c.txt", "d.csv", "e.txt", "f.txt", "hub:x:train", "m"]
    assert home_of(config, Path("x"), {}) == Path.cwd()
    assert files_of({"task": 3, "source": {"kind": "run"}, "sequence": None}) == []  # type: ignore[dict-item]
