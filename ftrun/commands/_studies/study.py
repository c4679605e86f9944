"""A study: runs that are planned together, some by what others came to, made by the queue's driver."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.commands._studies.settings import composed
from ftrun.experiments.queue.job import FINISHED, Job, Packed, Place
from ftrun.experiments.queue.telling import Telling
from ftrun.runs.ledger import Ledger, key_of
from ftrun.runs.run import RESULT, Run, is_run
from ftrun.settings.auto import AUTO
from ftrun.training.pausing import HALFWAY, Rung

if TYPE_CHECKING:
    from ftrun.experiments.queue.driver import Driver
    from ftrun.experiments.queue.engine import Engine
    from ftrun.experiments.queue.job import Event

TUNING_SEED = 1000  # not a seed of the study: runs that choose the rate are not reported
RUNS, GRID, PILOTS, SEARCH = "runs", "grid", "pilots", "search"  # its directories

# has runs begun, and yields those that it waits for; what it returns is for the one that it is a part of
Plan = Generator[list["Trial"], None, Any]


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
    turn: int = 0  # of those that are compared

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


class Heard(Telling):
    """What is told of a study: its runs by their titles, which have their rates once these are known."""

    def __init__(self) -> None:
        super().__init__()
        self.trials: dict[int, Trial] = {}

    def title(self, job: Job) -> str:
        return self.trials[job.number].title

    def name(self, job: Job) -> str:
        return self.title(job)


@dataclass
class Study:
    """A study: its settings and its runs so far."""

    words: list[str]  # key=value, the same for all strategies
    tests: list[list[str]]  # task.split_seed=0 task.fold=0 and so on, where there are several
    directory: Path
    names: list[str]  # of the strategies
    processes: int = 1  # of each run
    telling: Heard = field(default_factory=Heard)
    runs: dict[tuple[int, ...], Trial] = field(default_factory=dict)  # that are compared, by their rank
    chosen: dict[str, str] = field(default_factory=dict)  # how each strategy's rate was chosen
    solved: set[str] = field(default_factory=set)  # strategies that have neither steps nor a rate
    metric: str = ""  # that chooses their settings, without eval_

    def __post_init__(self) -> None:
        self.ledger, self.place = Ledger(self.directory.absolute()), Place()
        self.driver: Driver | None = None
        self.plans: dict[Plan, set[int]] = {}  # the numbers of the runs that each waits for
        self.numbers: dict[str, int] = {}  # of runs, by their keys
        self.jobs: dict[int, Job] = {}
        self.ended: dict[int, str] = {}  # how each run ended last; none of one that is under way
        self.new: list[Job] = []

    def tuning(self, number: int = 0) -> list[str]:
        """The settings of runs that choose the rate: a seed of their own, and the first split and fold."""
        return [f"seed={TUNING_SEED + number}", *self.tests[0]]

    @property
    def first(self) -> str:
        """Which of the folds and splits chooses the rate; empty where there is one test split."""
        names = {"task.split_seed": "the first split", "task.fold": "the first fold"}
        return " and ".join(names[word.partition("=")[0]] for word in self.tests[0])

    @property
    def failed(self) -> list[str]:
        """The runs that failed, a line for each reason."""
        found = self.telling.failed.items()
        return sorted(f"{', '.join(sorted(job.path.name for job in jobs))}: {why}" for why, jobs in found)

    def conduct(self, engine: Engine, retries: int, plans: Iterable[Plan]) -> None:
        """Have made what these plans begin, each going on as soon as what it waits for has ended."""
        from ftrun.experiments.queue.driver import Driver

        self.driver = Driver(engine, self.ledger, self.telling, retries, self.following)
        self.plans = {plan: set() for plan in plans}
        try:
            for plan in [*self.plans]:
                self.go_on(plan)
            self.driver.run(self.taken())
        finally:
            for plan in self.plans:
                plan.close()

    def begin(self, trial: Trial, race: bool = False) -> None:
        """Have a run made, or gone on with, as soon as there is room; in a `race` up to where it waits.

        What prepares a strategy comes before what is compared, and a strategy before those behind it.
        """
        number = self.numbers.setdefault(trial.key, len(self.numbers))
        rank = (int(trial.folder == RUNS), trial.turn, self.names.index(trial.name))
        if trial.folder == RUNS:
            self.runs[rank] = trial
        self.telling.trials[number] = trial
        self.ended.pop(number, None)
        self.jobs[number] = Job(
            number, trial.title, trial.path.absolute(), trial.key, Packed.of(trial.raw), self.place,
            self.processes, trial.name, rank,
            {"validation_alone": trial.folder != RUNS, "rungs": trial.rungs if race else ()},
        )  # fmt: skip
        self.new.append(self.jobs[number])

    def made(self, trials: Iterable[Trial], race: bool = False) -> Plan:
        """Have them made and wait for all."""
        for trial in (begun := list(trials)):
            self.begin(trial, race)
        yield begun

    def following(self, job: Job, event: Event) -> list[Job]:
        """What can begin now that a run has ended, or waits."""
        self.ended[job.number] = event.state
        trial = self.telling.trials[job.number]
        entry = self.ledger.entry(job.key) or {}  # else it waits
        trial.path = self.directory / entry.get("run", job.path.relative_to(self.ledger.directory))
        for plan, left in list(self.plans.items()):
            if job.number in left:
                left.discard(job.number)
                if not left:
                    self.go_on(plan)
        return self.taken()

    def go_on(self, plan: Plan) -> None:
        """Have a plan begin what it can, until it waits for a run that is under way."""
        for awaited in plan:
            left = {self.numbers[trial.key] for trial in awaited}
            self.plans[plan] = {number for number in left if number not in self.ended}
            if self.plans[plan]:
                return
        self.plans.pop(plan)

    def taken(self) -> list[Job]:
        """What was begun since the last call."""
        new, self.new = self.new, []
        return new

    def finished(self, trial: Trial) -> bool:
        """Whether a run that was begun has finished."""
        return self.ended.get(self.numbers[trial.key]) == FINISHED

    def give_up(self, trial: Trial, reached: str) -> None:
        """A run that waits will not go on; `reached` says what it had come to."""
        assert self.driver is not None
        self.driver.give_up(self.jobs[self.numbers[trial.key]], reached)
