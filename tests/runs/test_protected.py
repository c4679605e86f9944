"""No command writes over what it reads, or over a part of a run, a model or a study."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished import finished

from ftrun.commands.report import main as report
from ftrun.errors import ConfigError
from ftrun.runs.ledger import Ledger
from ftrun.runs.protected import refuse_directory, refuse_output, refuse_owned


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    finished(path, items=20, baselines={"majority": 0.5})
    (path / "checkpoints" / "last").mkdir(parents=True)
    return path


def test_every_file_of_a_run_is_the_runs_own(run: Path) -> None:
    own = [file for file in run.rglob("*") if file.is_file()]
    assert len(own) > 5
    coming = [
        run / "failure.json",
        run / "checkpoints" / "best" / "x.csv",
        run / "log.txt",
        run / ".x.json.12",
    ]
    for file in [*own, *coming]:
        with pytest.raises(
            ConfigError, match=f"--output {file} is a part of the run {run}; possible: another"
        ):
            refuse_output("--output ", file)


def test_what_is_made_beside_them_may_be_made_again(run: Path) -> None:
    for name in ("report.html", "answers.csv", "more/answers.jsonl"):
        refuse_output("--output ", run / name)
    (run / "report.html").touch()
    refuse_output("--output ", run / "report.html")
    with pytest.raises(ConfigError, match="is a directory; name a file"):
        refuse_output("--output ", run)
    refuse_directory("--plots ", run)
    with pytest.raises(ConfigError, match="config.yaml is a file; name a directory"):
        refuse_directory("--plots ", run / "config.yaml")
    with pytest.raises(ConfigError, match="model is a part of the run"):
        refuse_directory("--plots ", run / "model")


def test_what_is_read_is_not_replaced_however_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "d.csv"
    file.touch()
    (tmp_path / "link.csv").symlink_to(file)
    (tmp_path / "hard.csv").hardlink_to(file)
    for name in (str(file), f"{tmp_path}/data", f"{tmp_path}/data/*.csv", f"{file}:train"):
        for output in (file, tmp_path / "link.csv", tmp_path / "data" / ".." / "data" / "d.csv"):
            with pytest.raises(ConfigError, match="would replace what is read"):
                refuse_output("--output ", output, ["\0", "x" * 5000, name])
        refuse_output("--output ", tmp_path / "data" / "new.csv", [name])
    with pytest.raises(ConfigError, match="would replace what is read"):
        refuse_output("--output ", tmp_path / "hard.csv", [str(file)])


def test_models_and_ledgers_are_no_place_either(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match="vocab.txt is a part of the model"):
        refuse_owned("--output ", tmp_path / "vocab.txt")
    refuse_owned("--output ", tmp_path / "new.csv")
    refuse_owned("--output ", tmp_path / "ledger" / "answers.jsonl")  # of somebody else
    Ledger(tmp_path).write("key", tmp_path / "run", "failed")
    for name in ("ledger.jsonl", "ledger", "ledger/key.json"):
        with pytest.raises(ConfigError, match="is the ledger of a study"):
            refuse_owned("--output ", tmp_path / name)


def test_a_report_does_not_destroy_its_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for words in (["--output", "config.yaml"], ["--plots", "model"], ["--output", "model/weights"]):
        with pytest.raises(ConfigError, match=f"report: {words[0]} {run}/{words[1]} is a part of the run"):
            report([str(run), words[0], str(run / words[1])])
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
