"""A study: runs that are planned together, each trained once, recorded in the ledger of their directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ftrun.commands._settings import composed
from ftrun.errors import Interrupted
from ftrun.runs.ledger import Ledger, key_of
from ftrun.runs.run import Run, is_run
from ftrun.settings.auto import AUTO

TUNING_SEED = 1000  # not a seed of the study: runs that choose the rate are not reported


@dataclass
class Plan:
    """A study: its settings and its runs so far."""

    words: list[str]  # key=value, the same for all strategies
    tests: list[list[str]]  # task.split_seed=0 task.fold=0 and so on, where there are several
    directory: Path
    ledger: Ledger
    failed: list[str] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)  # of this study, trained now or earlier with the same code
    chosen: list[str] = field(default_factory=list)  # how each strategy's rate was chosen

    @property
    def tuning(self) -> list[str]:
        """The settings of runs that choose the rate: a seed of their own, and the first split and fold."""
        return [f"seed={TUNING_SEED}", *self.tests[0]]

    @property
    def first(self) -> str:
        """Which of the folds and splits chooses the rate; empty where there is one test split."""
        names = {"task.split_seed": "the first split", "task.fold": "the first fold"}
        return " and ".join(names[word.partition("=")[0]] for word in self.tests[0])


def rate_tried(plan: Plan, words: list[str]) -> float | None:
    """The rate of a trial, also of one that failed; None where it failed before `auto` was a number."""
    place = plan.directory / plan.ledger.entries[key_of(composed(words))]["run"]
    rate = Run(place).config["train"]["lr"] if is_run(place) else AUTO
    return None if rate == AUTO else float(rate)


def trial(plan: Plan, folder: str, name: str, own: list[str]) -> Run | None:
    """The finished run of these settings, trained now or earlier; None if it failed."""
    from ftrun.experiments.launch import one, show

    words = [*plan.words, f"strategy={name}", *own]
    raw = composed(words)
    key = key_of(raw)
    path = plan.ledger.place_of(key)
    if path is not None:
        print(f"already finished: {' '.join([f'strategy={name}', *own])}", flush=True)
        plan.runs += [path] if folder == "runs" else []
        return Run.open(path)
    rate = raw["train"]["lr"]
    shown = rate if rate == AUTO else f"{rate:g}"
    several = any(word.startswith("task.split_seed=") for word in own)
    split = f"-split{raw['task']['split_seed']}" if several else ""
    fold = "" if (number := raw["task"].get("fold")) is None else f"-fold{number}"
    path = plan.directory / folder / f"{name}-lr{shown}-seed{raw['seed']}{split}{fold}-{key[:6]}"
    print(f"run: {' '.join([f'strategy={name}', *own])}", flush=True)
    plan.runs += [path] if folder == "runs" else []
    try:
        one(raw, path, again=True)
    except Interrupted:
        raise
    except Exception as error:  # shown with its traceback; the study continues, as a sweep does
        show(error, " ".join(words))
        plan.failed.append(f"{path.name}: {error}")
        plan.ledger.write(key, path, "failed", str(error))
        return None
    plan.ledger.write(key, path, "finished")
    return Run.open(path)
