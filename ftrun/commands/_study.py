"""A study: runs that are planned together, each trained once, recorded in the ledger of their directory."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftrun.commands._settings import composed
from ftrun.errors import DiskFull, Interrupted, InUse, Paused, UserError, disk_full
from ftrun.experiments.study.board import Board
from ftrun.reports.numbers import score
from ftrun.runs.ledger import Ledger, key_of
from ftrun.runs.run import LOG, PAUSE, RESULT, Run, is_run
from ftrun.runs.terminal import logged
from ftrun.settings.auto import AUTO
from ftrun.training.pausing import HALFWAY, Rung, asked

TUNING_SEED = 1000  # not a seed of the study: runs that choose the rate are not reported
RUNS, GRID, PILOTS, SEARCH = "runs", "grid", "pilots", "search"  # its directories
LOOK = 10.0  # seconds between two looks at a run that another process makes
STOPPED = "stopped"  # of a run in the ledger: it waits for ever


@dataclass
class Study:
    """A study: its settings and its runs so far."""

    words: list[str]  # key=value, the same for all strategies
    tests: list[list[str]]  # task.split_seed=0 task.fold=0 and so on, where there are several
    directory: Path
    ledger: Ledger
    board: Board
    failed: list[str] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)  # of this study, trained now or earlier with the same code
    chosen: list[str] = field(default_factory=list)  # how each strategy's rate was chosen
    solved: set[str] = field(default_factory=set)  # strategies that have neither steps nor a rate
    metric: str = ""  # that chooses their settings, without eval_

    def tuning(self, number: int = 0) -> list[str]:
        """The settings of runs that choose the rate: a seed of their own, and the first split and fold."""
        return [f"seed={TUNING_SEED + number}", *self.tests[0]]

    @property
    def first(self) -> str:
        """Which of the folds and splits chooses the rate; empty where there is one test split."""
        names = {"task.split_seed": "the first split", "task.fold": "the first fold"}
        return " and ".join(names[word.partition("=")[0]] for word in self.tests[0])


@dataclass
class Trial:
    """One run of a study, before or after it is made."""

    folder: str
    name: str  # of the strategy
    raw: dict[str, Any]
    key: str
    path: Path
    words: dict[str, str]  # its own settings by their last names
    rungs: tuple[Rung, ...] = HALFWAY  # where it waits in a race
    aim: str = ""  # what it is for, where its directory does not say it

    @classmethod
    def of(cls, study: Study, folder: str, name: str, own: list[str]) -> Trial:
        """The run of these settings in one of the study's directories."""
        raw = composed([*study.words, f"strategy={name}", *own])
        key, rate = key_of(raw), raw["train"]["lr"]
        shown = rate if rate == AUTO else f"{rate:g}"
        several = any(word.startswith("task.split_seed=") for word in own)
        split = f"-split{raw['task']['split_seed']}" if several else ""
        fold = "" if (number := raw["task"].get("fold")) is None else f"-fold{number}"
        path = study.directory / folder / f"{name}-lr{shown}-seed{raw['seed']}{split}{fold}-{key[:6]}"
        entry = study.ledger.entry(key)
        if entry is not None:
            path = study.directory / entry["run"]
        words = {word.partition("=")[0].rpartition(".")[2]: word.partition("=")[2] for word in own}
        return cls(folder, name, raw, key, path, {name: words[name] for name in words if name != "max_steps"})

    @property
    def title(self) -> str:
        """lora lr=1e-3 seed 1; of a run that is not compared what it is for."""
        words, rate = dict(self.words), self.rate
        seed, lr = int(words.pop("seed", 0)), words.pop("lr", None if rate is None else f"{rate:g}")
        parts = [self.name, *([f"lr={lr}"] if lr else []), *([f"seed {seed}"] if self.folder == RUNS else [])]
        parts += [f"{key.replace('_', ' ')} {value}" for key, value in words.items()]
        again = f", seed {seed - TUNING_SEED + 1}" if seed > TUNING_SEED else ""
        aims = {RUNS: "", GRID: f", choosing the rate{again}", PILOTS: ", timing its steps", SEARCH: ""}
        return " ".join(parts) + (f", {self.aim}" if self.aim else aims[self.folder])

    @property
    def rate(self) -> float | None:
        """Its peak rate, also of one that failed; None where it failed before `auto` was a number."""
        found = Run(self.path).config["train"]["lr"] if is_run(self.path) else AUTO
        return None if found == AUTO else float(found)

    @property
    def run(self) -> Run:
        return Run.open(self.path)

    @property
    def result(self) -> dict[str, Any]:
        """Its result.json; empty where it did not finish."""
        return (self.run.read_json(RESULT) if is_run(self.path) else None) or {}

    @property
    def waits(self) -> bool:
        """Whether it has come to a rung, as to half, and no further."""
        return is_run(self.path) and (self.path / PAUSE).is_file() and not self.run.finished

    @property
    def outcome(self) -> str:
        """84.2 %: of a run that is compared on test rows, else on validation rows; UserError if damaged."""
        result = self.run.result("metric")
        metric = result["metric"].removeprefix("eval_")
        if self.folder == RUNS:
            return score(result.get(f"test_{metric}"), metric)
        return f"{score(result.get(f'eval_{metric}'), metric)} on validation"


def make(study: Study, trial: Trial, race: bool = False) -> bool:
    """Train it unless that was done earlier; whether it finished, or in a `race` waits."""
    board, entry = study.board, study.ledger.entry(trial.key) or {}
    study.runs += [trial.path] if trial.folder == RUNS else []
    if study.ledger.place_of(trial.key) is not None:
        try:
            outcome = f"{trial.outcome} · already finished"
        except UserError as error:
            return failed(study, trial, str(error))
        board.done(trial.name, trial.key, trial.title, outcome, now=False)
        return True
    if race and (trial.waits or (entry.get("state") == STOPPED and is_run(trial.path))):
        return True
    try:
        with board.running(trial.key, trial.title) as watch:
            ended = train(trial, watch, race)
    except (Interrupted, DiskFull):
        raise
    except InUse as error:  # it is made elsewhere, and may be finished there or left to us
        board.say(f"{trial.title}: {error}; it is looked at again later")
        time.sleep(LOOK)
        study.runs[:] = [path for path in study.runs if path != trial.path]
        return make(study, trial, race)
    except UserError as error:
        return failed(study, trial, str(error))
    except Exception as error:  # a bug; the study continues, as a sweep does
        if disk_full(error) is not None:
            raise
        return failed(study, trial, f"{type(error).__name__}: {error}; see {trial.path / LOG}")
    if ended:
        study.ledger.write(trial.key, trial.path, "finished")
        board.done(trial.name, trial.key, trial.title, trial.outcome)
    return True


def train(trial: Trial, watch: Any, race: bool) -> bool:
    """Make or continue the run, whose lines go to a file in its directory; False where it waits."""
    from ftrun.experiments.making import one

    trial.path.mkdir(parents=True, exist_ok=True)
    wishes = asked(validation_alone=trial.folder != RUNS, rungs=trial.rungs if race else ())
    with logged(trial.path / LOG, watch), wishes:
        try:
            one(trial.raw, trial.path, again=True)
        except Paused:
            return False
        except (Interrupted, DiskFull, InUse):
            raise
        except Exception:
            traceback.print_exc()
            raise
    return True


def failed(study: Study, trial: Trial, message: str) -> bool:
    """Note a failure and tell it; always False."""
    study.failed.append(f"{trial.path.name}: {message}")
    study.ledger.write(trial.key, trial.path, "failed", message)
    study.board.done(trial.name, trial.key, trial.title, f"failed: {' '.join(message.split())}")
    return False


def stop(study: Study, trial: Trial, reached: str) -> None:
    """Give up a run that waits; `reached` says what it had come to."""
    if (study.ledger.entry(trial.key) or {}).get("state") != STOPPED:
        study.ledger.write(trial.key, trial.path, STOPPED, reached)
    study.board.done(trial.name, trial.key, trial.title, reached)
