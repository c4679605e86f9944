"""ftrun compare through the command line: a grid for each strategy, seeds, a ledger of what is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftrun.cli import start
from ftrun.commands.compare import budget, of_steps
from ftrun.errors import ConfigError, DataError, Diverged
from ftrun.experiments import launch
from ftrun.runs.ledger import Ledger, key_of

WORDS = ["task=digits", "model=mlp", "train.optimizer=sgd", "task.subset=60", "device=cpu"]


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = start(["compare", *WORDS, "--budget", "steps=4", "--dir", "study", *words])
    return code, capsys.readouterr().out


def test_a_study_goes_on_with_more_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    two = ["--strategies", "full,scratch", "--lr", "default"]
    code, text = compared(capsys, *two, "--seeds", "1")
    assert code == 0
    assert text.count("\nrun: ") == 2 and "already finished" not in text
    assert "Pairwise comparison (2 tests, Holm-corrected)" in text  # one with the most frequent label
    code, text = compared(capsys, *two, "--seeds", "2")
    assert (code, text.count("\nrun: "), text.count("already finished: ")) == (0, 2, 2)
    entries = [json.loads(line) for line in Path("study/ledger.jsonl").read_text().splitlines()]
    assert [entry["state"] for entry in entries] == ["finished"] * 4
    assert len(list(Path("study/runs").iterdir())) == 4


def test_the_rate_is_chosen_on_validation_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = compared(capsys, "--strategies", "scratch", "--seeds", "1", "train.lr=0.1")
    assert code == 0
    assert "learning rate of scratch: " in text and "trials: " in text
    rates = {float(path.name.split("-")[1][2:]) for path in Path("study/grid").iterdir()}
    assert {0.032, 0.1, 0.32} <= rates


def test_no_rate_is_searched_where_a_head_is_solved_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = compared(capsys, "--strategies", "linear_probe", "--seeds", "1")
    assert code == 0 and text.count("\nrun: ") == 1 and "Learning rates" not in text
    assert not Path("study/grid").exists() and len(list(Path("study/runs").iterdir())) == 1


def test_a_default_rate_that_diverges_does_not_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    honest = launch.one

    def one(raw: dict[str, Any], path: Path, again: bool) -> float:
        score = honest(raw, path, again)
        if raw["train"]["lr"] == "auto":
            (path / "result.json").unlink()
            raise Diverged("planted")
        return score

    monkeypatch.setattr(launch, "one", one)
    code, text = compared(capsys, "--strategies", "scratch", "--seeds", "1")
    assert code == 1  # of the one that failed
    said = next(line for line in text.splitlines() if line.startswith("learning rate of scratch: "))
    assert "(failed)" in said and len(list(Path("study/runs").iterdir())) == 1


def test_a_failure_is_shown_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--strategies", "lora,full", "--lr", "default", "--seeds", "1"]  # an mlp has nothing for LoRA
    code = start(["compare", *WORDS, "--budget", "steps=2", "--dir", "study", *words])
    out, err = capsys.readouterr()
    assert code == 1
    assert "failed: " in err
    assert "\nFailed\n" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strategies", "lroa"], "there is no strategy 'lroa'"),
        (["strategy=full"], "strategy= cannot be set here; use --strategies"),
        (["--seeds", "0"], "--seeds must be at least 1, not 0"),
        (["--budget", "hours=1"], "--budget hours=1: expected steps=N or minutes=M"),
        (["--budget", "steps=x"], "--budget steps=x: expected steps=N or minutes=M"),
        (["reviews.csv"], "'reviews.csv' is not key=value"),
        (["task.subsett=3"], "subsett"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        start(["compare", *words])
    assert not list(tmp_path.iterdir())


def test_rows_that_cannot_be_read_are_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"gone\.csv does not exist"):
        start(["compare", "task=classify", "task.train=gone.csv"])
    assert not list(tmp_path.iterdir())


def test_a_budget_keeps_what_was_said() -> None:
    assert budget("minutes=0.5") == (None, 0.5)
    assert of_steps(7, ["train.eval_every=2"]) == ["train.max_steps=7"]


def test_a_ledger_forgets_what_was_deleted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    key = key_of({"seed": 0})
    assert key != key_of({"seed": 1})
    place = tmp_path / "runs" / "a"
    place.mkdir(parents=True)
    ledger.write(key, place, "finished")
    assert Ledger(tmp_path).place_of(key) is None
    (place / "result.json").write_text("{}")
    assert Ledger(tmp_path).place_of(key) == place
