"""ftrun compare through the command line: a grid for each strategy, seeds, a ledger of what is done."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from killing import content, different

from ftrun.cli import start
from ftrun.commands.compare import budget
from ftrun.errors import ConfigError, DataError, Diverged, Interrupted
from ftrun.experiments import making
from ftrun.experiments.study.board import Board
from ftrun.experiments.study.cost import Timing
from ftrun.runs.ledger import Ledger
from ftrun.strategies.scratch import Scratch
from ftrun.tasks.dataset import SPLITS
from ftrun.training.loop import Loop

WORDS = ["task=digits", "model=mlp", "train.optimizer=sgd", "task.subset=60", "device=cpu"]

TIMED = Timing(1.0, [(0, 1.0)], 0.1, 60, dict.fromkeys(SPLITS, 0.1), 0.1, 0.1, 0.1, 0.0, None, 1000)


@pytest.fixture(autouse=True)
def timed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are timed in one test only."""
    if request.node.name != "test_a_study_goes_on_with_more_seeds":
        monkeypatch.setattr("ftrun.experiments.study.costing.timing", lambda settings, data: TIMED)


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
    assert "2 runs to compare, of full, scratch: about " in text and "already finished" not in text
    lines = [line for line in text.splitlines() if " of 2 · " in line]
    assert [line.split(" · ")[1] for line in lines] == ["full lr=0.15 seed 0", "scratch lr=0.15 seed 0"]
    assert "left" in lines[0] and "left" not in lines[1]
    assert text.index("\nVerdict · mlp · 60 training rows · 4 steps") < text.index("score  trained")
    assert text.index("score  trained") < text.index("Pairwise comparison")
    assert "best step" in next(Path("study/runs").glob("full*/log.txt")).read_text()
    assert "best step" not in text
    assert "Pairwise comparison (2 tests, Holm-corrected)" in text  # one with the most frequent label
    code, text = compared(capsys, *two, "--seeds", "2")
    assert (code, text.count(" of 4 · "), text.count(" · already finished")) == (0, 4, 2)
    assert [entry["state"] for entry in Ledger(Path("study")).entries()] == ["finished"] * 4
    assert len(list(Path("study/runs").iterdir())) == 4


def test_the_rate_is_chosen_on_validation_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = compared(capsys, "--strategies", "scratch", "--seeds", "1", "train.lr=0.1")
    assert code == 0
    assert "learning rate of scratch: " in text and "trials: " in text
    assert "1 run to compare and 3 or more that prepare them" in text
    assert "scratch lr=0.1, choosing the rate" in text
    trials = list(Path("study/grid").iterdir())
    assert {0.032, 0.1, 0.32} <= {float(path.name.split("-")[1][2:]) for path in trials}
    for path in trials:  # what nobody looks at is not computed
        result = json.loads((path / "result.json").read_text())
        assert result["eval_accuracy"] > 0 and not [name for name in result if name.startswith("test_")]
        assert not (path / "model").exists() and not (path / "predictions.jsonl").exists()
    (run,) = Path("study/runs").iterdir()
    assert "test_accuracy" in json.loads((run / "result.json").read_text()) and (run / "model").is_dir()


def test_no_rate_is_searched_where_a_head_is_solved_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = compared(capsys, "--strategies", "linear_probe", "--seeds", "1")
    assert code == 0 and "1 of 1 · linear_probe" in text and "Learning rates" not in text
    assert not Path("study/grid").exists() and len(list(Path("study/runs").iterdir())) == 1


def test_a_default_rate_that_diverges_does_not_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    honest = making.one

    def one(raw: dict[str, Any], path: Path, again: bool) -> float:
        score = honest(raw, path, again)
        if raw["train"]["lr"] == "auto":
            (path / "result.json").unlink()
            raise Diverged("planted")
        return score

    monkeypatch.setattr(making, "one", one)
    code, text = compared(capsys, "--strategies", "scratch", "--seeds", "1")
    assert code == 1  # of the one that failed
    said = next(line for line in text.splitlines() if line.startswith("learning rate of scratch: "))
    assert "(failed)" in said and len(list(Path("study/runs").iterdir())) == 1


def test_a_failure_is_shown_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--strategies", "adapter,full", "--lr", "default", "--seeds", "1"]  # the mlp has random weights
    words += ["--output", "study.html"]
    code = start(["compare", *WORDS, "--budget", "steps=2", "--dir", "study", *words])
    out, _ = capsys.readouterr()
    assert code == 1 and out.endswith("\nsaved: study.html\n") and Path("study.html").is_file()
    assert " · adapter seed 0 · failed: strategy=adapter keeps a pretrained network" in out
    assert out.index("\nVerdict") < out.index("\nFailed\n")


def test_ctrl_c_shows_what_is_there_and_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--strategies", "full,scratch", "--lr", "default", "--seeds", "1", "train.checkpoint_every=1"]
    honest, steps = Loop.after_step, []

    def interrupted(loop: Any, progress: Any, signals: list[int]) -> None:
        steps.append(loop.state.step)
        honest(loop, progress, [signal.SIGINT] if len(steps) == 6 else signals)

    monkeypatch.setattr(Loop, "after_step", interrupted)
    with pytest.raises(Interrupted):
        compared(capsys, *words)
    out = capsys.readouterr().out
    assert " of 2 · full lr=0.15 seed 0 · " in out and "Verdict" in out and "was interrupted" not in out
    (command,) = [line for line in out.splitlines() if line.startswith("to continue: ")]
    _, *again = shlex.split(command.removeprefix("to continue: "))
    steps.clear()
    steps.extend([0] * 6)
    assert start(again) == 0
    assert steps[6:] == [3, 4]  # of the second run; the first is not repeated
    assert "scratch lr=0.15 seed 0" in capsys.readouterr().out


def test_a_rate_that_does_not_learn_is_stopped_at_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ftrun.commands._studies.rates.STEP", 1000.0)
    words = [
        "--strategies",
        "scratch",
        "--seeds",
        "1",
        "train.lr=0.1",
        "train.batch_size=60",
        "baselines=false",
    ]
    code = start(["compare", *WORDS, "--budget", "steps=16", "--dir", "study", *words])
    text = capsys.readouterr().out
    assert code == 0 and " · scratch lr=0.0001, choosing the rate · stopped at 50 %: " in text
    (stopped,) = [path for path in Path("study/grid").glob("*lr0.0001*")]
    assert not (stopped / "result.json").exists()
    assert "0.0001 (stopped at 50 %: " in next(x for x in text.splitlines() if x.startswith("learning rate"))
    start(["compare", *WORDS, "--budget", "steps=16", "--dir", "study", *words])
    assert "stopped at 50 %: " in capsys.readouterr().out and not (stopped / "result.json").exists()


def test_a_strategy_without_a_rate_has_no_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Scratch, "solved", True)
    code, text = compared(capsys, "--strategies", "scratch", "--seeds", "1")
    assert code == 0 and "1 run to compare, of scratch" in text and "learning rate" not in text
    assert not Path("study/grid").exists()


def test_the_time_left_is_corrected_by_what_runs_took() -> None:
    board = Board()
    board.predicted = {"full": 100.0, "lora": 50.0}
    board.pending.update({"full": 2, "lora": 2, "probe": 1})
    assert board.left() == 2 * 100 + 2 * 50 + 75  # of an unknown one the mean of the others
    board._spent |= {"a": 300.0, "b": 60.0}  # "b" waits at half
    board.done("full", "a", "full", "84 %")
    assert board.left() == 300 + 2 * 150 + 225 - 60  # all took three times as long


def test_runs_that_wait_for_one_another_in_a_job_do_not_take_their_waiting(monkeypatch: Any) -> None:
    board, clock = Board(workers=2), [0.0]
    monkeypatch.setattr("ftrun.experiments.study.board.time.perf_counter", lambda: clock[0])
    board.pending["full"] = 100
    for job in range(2):  # jobs of ten runs, one after the other in each, of four seconds
        for run in range(10):
            board.begin(f"{job} {run}")
    for run in range(10):
        clock[0] += 4.0
        for job in range(2):
            board.end(f"{job} {run}")
            board.done("full", f"{job} {run}", "full", "84 %")
    assert board.left() == pytest.approx(80 * 4 / 2)


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


def test_a_budget_is_steps_or_minutes() -> None:
    assert budget("minutes=0.5") == (None, 0.5) and budget("steps=7") == (7, None)


@pytest.mark.ci
def test_two_workers_come_to_what_one_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file but those of clocks, of rates that wait at half and go on, and of two seeds."""
    import torch

    monkeypatch.chdir(tmp_path)
    words = [
        "--strategies",
        "scratch",
        "--seeds",
        "2",
        "baselines=false",
        "train.lr=0.1",
        "train.eval_every=2",
    ]
    assert compared(capsys, *words)[0] == 0
    Path("study").rename("here")
    local = ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]
    local += [f"hydra.launcher.threads={torch.get_num_threads()}"]
    code, text = compared(capsys, *words, *local)
    assert code == 0 and "runs are made by 2 processes of " in text
    found = content(Path("here"))
    assert not different(found, content(Path("study")))
    assert sum(name.endswith("/pause.json") for name in found) >= 3


def test_words_of_hydra_that_are_no_launcher_s_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hydra.sweep.dir=all cannot be set here; .* --dir DIR"):
        start(["compare", *WORDS, "hydra.sweep.dir=all"])
    with pytest.raises(ConfigError, match="hydra/launcher"):
        start(["compare", *WORDS, "hydra/launcher=lokal"])
    with pytest.raises(ConfigError, match="hydra.launcher.max_retries=x: possible: a whole number from 0"):
        start(["compare", *WORDS, "hydra.launcher.max_retries=x"])


def test_a_dry_comparison_says_who_would_make_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--strategies", "full", "--seeds", "3", "hydra/launcher=local", "hydra.launcher.n_jobs=3"]
    code, text = compared(capsys, *words, "hydra.launcher.dry=true")
    assert code == 0 and text.splitlines()[-1].endswith("; nothing was started")
    assert "they would be made by 3 processes of " in text and not list(tmp_path.iterdir())
