"""ftrun compare --search through the command line: trials, failures, kills, and what the report says."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
from killing import content, different

from ftrun.cli import start
from ftrun.commands._studies.ranges import Ranges
from ftrun.commands._studies.settings import composed
from ftrun.errors import ConfigError, Diverged
from ftrun.experiments import making
from ftrun.experiments.queue.here import Here
from ftrun.experiments.queue.job import Event, Job
from ftrun.experiments.queue.launcher import Launching
from ftrun.experiments.queue.worker import work
from ftrun.experiments.study.cost import Timing
from ftrun.experiments.study.trials import Trials
from ftrun.runs.ledger import Ledger
from ftrun.tasks.dataset import SPLITS
from ftrun.training.loop import Loop

WORDS = ["task=digits", "model=mlp", "task.subset=60", "device=cpu", "baselines=false", "train.eval_every=2"]
TIMED = Timing(1.0, [(0, 1.0)], 0.1, 60, dict.fromkeys(SPLITS, 0.1), 0.1, 0.1, 0.1, 0.0, None, 1000)
ALONE = ["--strategies", "full", "--seeds", "1", "--search"]


class Killed(SystemExit):
    """The end of a process, which nothing catches."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ftrun.experiments.study.costing.timing", lambda settings, data: TIMED)


def compared(capsys: pytest.CaptureFixture[str], *words: str, study: str = "study") -> tuple[int, str]:
    code = start(["compare", *WORDS, "--budget", "steps=8", "--dir", study, *words])
    return code, capsys.readouterr().out


def kept(study: str) -> list[tuple[Any, ...]]:
    """What the database has of every trial, by strategy."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{study}/search.db")
    try:
        return [
            (
                name.partition("-")[0],
                trial.state.name,
                trial.value,
                trial.user_attrs["values"],
                trial.intermediate_values,
            )
            for name in sorted(optuna.get_all_study_names(storage))
            for trial in optuna.load_study(study_name=name, storage=storage).trials
        ]
    finally:
        storage.remove_session()
        storage.engine.dispose()  # or Python 3.13 warns of a connection that nobody closed


def test_a_search_goes_on_after_failures_and_with_a_larger_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest, made = making.one, []

    def one(raw: dict[str, Any], path: Path, again: bool) -> float:
        made.append(path)
        if len(made) == 3:
            raise Diverged("planted")
        return honest(raw, path, again)

    monkeypatch.setattr(making, "one", one)
    words = ["--strategies", "full", "--seeds", "1", "--prune", "asha", "--search"]
    code, text = compared(capsys, *words, "4")
    assert code == 1 and "1 run to compare and 4 that prepare them, of full: about " in text
    assert "1 of 5 · full lr=0.0015, trial 1 of 4, the default · " in text
    states = [state for _, state, *_ in kept("study")]
    assert states[0] == "COMPLETE" and states[2] == "FAIL" and "PRUNED" in states and len(states) == 4
    assert (
        "trial 3 of 4 · failed: planted" in text
        and f"; {states.count('PRUNED')} stopped on the way; " in text
    )
    assert " · full: 4 trials each, the default first, drawn by Optuna's TPE" in text
    entries = list(Ledger(Path("study")).entries())
    names = {"COMPLETE": "finished", "FAIL": "failed", "PRUNED": "stopped"}
    noted = Counter(entry["state"] for entry in entries if not entry["run"].startswith("runs/"))
    assert noted == Counter(names[state] for state in states)
    pruned = next(Path("study") / entry["run"] for entry in entries if entry["state"] == "stopped")
    assert not (pruned / "result.json").exists() and (pruned / "checkpoints" / "last").is_dir()
    assert "\n1 run · task digits" in text  # and none of the search
    before = kept("study")
    made.clear()
    made += [Path("x")] * 9
    code, text = compared(capsys, *words, "5")
    assert code == 0 and len(made) == 9 + 1 and text.count(" · already finished") == 5
    assert kept("study")[:4] == before and len(kept("study")) == 5
    assert start(["resume", str(pruned)]) == 0 and (pruned / "result.json").exists()


@pytest.mark.ci
def test_a_search_that_was_killed_anywhere_is_the_search_that_was_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*ALONE, "5", "--prune", "asha", "--concurrent", "2"]
    compared(capsys, *words, study="whole")
    places = [
        (Loop, "evaluate", 5),  # in a run
        (Here, "start", 2),  # between a trial and its run
        (Trials, "tell", 1),  # between a run and its end in the database
        (Trials, "add", 1),
    ]
    for owner, name, number in places:
        calls, honest = [], getattr(owner, name)

        def killing(
            *given: Any, honest: Any = honest, calls: list[int] = calls, number: int = number, **own: Any
        ) -> Any:
            calls.append(1)
            if len(calls) == number:
                raise Killed
            return honest(*given, **own)

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(owner, name, killing)
            compared(capsys, *words, study="killed")
    code, text = compared(capsys, *words, study="killed")
    assert code == 0 and kept("killed") == kept("whole")
    runs = [sorted(path.name for path in Path(study, "search").iterdir()) for study in ("whole", "killed")]
    assert runs[0] == runs[1]


@dataclass
class Last:
    """An engine of several slots in which the run that began last ends first."""

    inside: ClassVar[bool] = False
    busy: list[Job] = field(default_factory=list)
    most: int = 0

    def open(self, directory: Path, jobs: list[Job], expected: int) -> None:
        """There is nothing to make ready."""

    def room(self) -> int:
        return 5 - len(self.busy)

    def start(self, job: Job) -> None:
        self.busy.append(job)
        self.most = max(self.most, len(self.busy))

    def wait(self, seconds: float) -> list[Event]:
        return [work(self.busy.pop())] if self.busy else []

    def close(self) -> None:
        """There is nothing to give back."""

    def workers(self) -> int:
        return 5

    def describe(self) -> str:
        return "the last first"


@pytest.mark.ci
def test_a_search_is_the_same_whichever_run_is_quicker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And whether it is asked for at once or a few trials first."""
    monkeypatch.setattr("ftrun.experiments.study.trials.STARTUP", 1)
    words = [*ALONE[:-1], "--prune", "asha", "--concurrent", "2", "--search"]
    _, one = compared(capsys, *words, "5", study="here")
    last = Last()
    monkeypatch.setattr(Launching, "engine", lambda self, telling: last)
    compared(capsys, *words, "3", study="last")
    code, two = compared(capsys, *words, "5", study="last")
    assert code == 0 and last.most == 2
    assert kept("here") == kept("last") and len(kept("here")) == 5
    found = content(Path("here/search"))
    assert found and not different(found, content(Path("last/search")))
    told = [[line for line in text.splitlines() if line.startswith("search of ")] for text in (one, two)]
    assert told[0] == told[1] and len(told[0]) == 1


def test_a_range_and_a_value_on_the_command_line() -> None:
    given = ["task=digits", "model=mlp", "train.lr=0.01", "train.layer_decay=1.0", "rank=2,4"]
    ranges, words = Ranges.taken_out(given, 9, "none")
    assert words == given[:-1]
    for name in ("full", "lora"):
        own = [*words, f"strategy={name}"]
        ranges.look_up(name, composed(own), own)
    ranges.refuse_unused()
    assert ranges.of["full"] == {} and {key: each.text for key, each in ranges.of["lora"].items()} == {
        "rank": "2,4",
        "targets": "choice(attention, all)",
    }
    assert (ranges.trials("full"), ranges.trials("lora")) == (0, 9)
    assert ranges.told(["lora"], {"lora"}) == ["lora: no trials, it is solved for, without rate and steps"]
    said = ranges.told(["full", "lora"], set())
    assert said[0].startswith("lora: 9 trials each") and said[1].startswith("full: no trials, all that could")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prune", "asha"], "--prune asha stops trials of a search; add --search N"),
        (["--search", "1"], "--search is a number of trials from 2, or 0 for none, not 1"),
        (["--search", "4", "--lr", "grid"], "--search searches the learning rate too; leave out --lr grid"),
        (
            ["--search", "4", "rank=2,4"],
            "rank=2,4: none of full has a setting 'rank'; it belongs to strategy=lora",
        ),
        (["--search", "4", "train.warmup=choice(0,x)"], r"train.warmup=choice\(0,x\): .*warmup is a number"),
        (["--search", "4", "search.rank=3"], "search.rank=3: search is no setting of a run"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        start(["compare", *WORDS, "--strategies", "full", *words])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["hparams_search=lora", "hydra/sweeper=optuna"])
def test_the_search_of_before_names_the_one_of_now(word: str) -> None:
    with pytest.raises(ConfigError, match=r"ftrun compare --search 20 --strategies lora"):
        start([word, "task=digits", "model=mlp"])


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"--search needs Optuna: pip install 'ftrun\[search\]'"):
        start(["compare", *WORDS, *ALONE, "4"])
    assert not list(tmp_path.iterdir())


def test_a_plan_counts_the_trials(capsys: pytest.CaptureFixture[str]) -> None:
    start(["plan", *WORDS, "--strategies", "full,linear_probe", "--seeds", "2", "--search", "7"])
    text = capsys.readouterr().out
    assert "ftrun compare --search 7 adds 7 runs, 7 trials of each way that has ranges" in text
    assert "with ftrun compare --search 7: about " in text
