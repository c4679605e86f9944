"""The learning rate of each strategy: a grid that is raced, and more seeds where one cannot choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean

from ftrun.commands._studies.settings import POWERS
from ftrun.commands._studies.study import GRID, Plan, Study, Trial
from ftrun.errors import counted
from ftrun.experiments.queue.places import waits
from ftrun.experiments.study.racing import came_late, curve_of, given_up, tied
from ftrun.reports.numbers import score
from ftrun.reports.summary import row_of
from ftrun.runs.run import PAUSE
from ftrun.tasks.metrics.metric import lookup

STEP = 10**0.5  # factor between the rates of a grid
EXTENSIONS = 6  # how often a grid grows where its best rate is at an edge
SEEDS = 3  # of the rates that are tied, at most


@dataclass
class Search:
    """The rates tried for one strategy, with the default in the middle."""

    study: Study
    name: str
    own: list[str]  # its settings beside the rate
    trials: dict[float, Trial] = field(default_factory=dict)
    stopped: dict[float, str] = field(default_factory=dict)  # at half, with what they had come to
    metric: str = ""

    def trial(self, rate: float | None, seed: int = 0) -> Trial:
        """The run of a rate, None for the default."""
        words = [] if rate is None else [f"train.lr={rate}"]
        return Trial.of(self.study, GRID, self.name, [*self.own, *self.study.tuning(seed), *words])

    def begin(self) -> Plan:
        """Make the run of the default; its rate, None where it failed before there was one."""
        trial = self.trial(None)
        yield from self.study.made([trial], race=True)
        if trial.rate is not None:
            self.trials[trial.rate] = trial
        return trial.rate

    def race(self, rates: list[float]) -> Plan:
        """Bring these rates to half, then those that are not given up to the end."""
        new = {rate: self.trial(rate) for rate in rates if rate not in self.trials}
        self.trials |= new
        yield from self.study.made(new.values(), race=True)
        runs = {rate: trial.run for rate, trial in self.trials.items() if trial.rate is not None}
        found = {rate: curve for rate, run in runs.items() if (curve := curve_of(run)) is not None}
        lost = given_up(found)
        waiting = {rate: each for rate, each in self.trials.items() if waits(each.path)}
        for rate in [*waiting]:
            if rate in self.stopped:
                waiting.pop(rate)
            elif rate in lost:
                self.stopped[rate] = reached(waiting[rate])
                self.study.give_up(waiting.pop(rate), self.stopped[rate])
        yield from self.study.made(waiting.values())

    @property
    def scores(self) -> dict[float, float]:
        """The validation score of each rate that finished."""
        found = {rate: trial.result for rate, trial in self.trials.items() if trial.result.get("metric")}
        for result in found.values():
            self.metric = result["metric"]
        return {
            rate: result[self.metric] for rate, result in found.items() if result.get(self.metric) is not None
        }

    def best(self, scores: dict[float, float]) -> float:
        """The rate with the best score; at equal scores with the lower loss."""
        sign = lookup(self.metric).sign
        losses = {rate: self.trials[rate].result.get("eval_loss") or 0.0 for rate in scores}
        return max(scores, key=lambda rate: (sign * scores[rate], -losses[rate]))

    def settled(self) -> Plan:
        """The rate to use, and a sentence where one seed could not choose it."""
        scores = self.scores
        best = self.best(scores)
        run = self.trials[best].run
        late = came_late(run)
        rows = (run.read_json("result.json") or {}).get("rows", {}).get("validation", 0)
        doubtful = tied(scores, self.metric, rows, late)
        if len(doubtful) < 2:
            return best, ""
        doubtful = [best, *(rate for rate in doubtful if rate != best)]
        why = "came late" if late else "within noise"
        means = {rate: [scores[rate]] for rate in doubtful}
        for seed in range(1, SEEDS):
            before = self.favourite(means)
            self.study.telling.board.pending[self.name] += len(doubtful)
            trials = {rate: self.trial(rate, seed) for rate in doubtful}
            yield from self.study.made(trials.values())
            for rate, trial in trials.items():
                value = trial.result.get(self.metric)
                means[rate].append(self.worst if value is None else value)
            if self.favourite({rate: values[-1:] for rate, values in means.items()}) == before:
                break  # the new seed agrees
        short = self.metric.removeprefix("eval_")
        told = ", ".join(f"{rate:g} {score(fmean(values), short)}" for rate, values in sorted(means.items()))
        seeds = counted(len(means[best]), "seed")
        return self.favourite(means), f"one seed could not choose ({why}), so by the mean of {seeds}: {told}"

    def favourite(self, values: dict[float, list[float]]) -> float:
        """The rate with the best mean; at equal means the first."""
        sign = lookup(self.metric).sign
        return max(values, key=lambda rate: sign * fmean(values[rate]))

    @property
    def worst(self) -> float:
        """The score of a run that failed."""
        return 0.0 if lookup(self.metric).sign > 0 else float("inf")


def best_rate(study: Study, name: str, own: list[str]) -> Plan:
    """The rate with the best validation score, from a grid around the default that grows at its edges."""
    search = Search(study, name, own)
    middle = yield from search.begin()
    if middle is None:
        study.telling.board.pending[name] = max(0, study.telling.board.pending[name] - len(POWERS) + 1)
        return None
    powers = list(POWERS)
    for _ in range(EXTENSIONS + 1):
        rates = [float(f"{middle * STEP**power:.2g}") if power else middle for power in powers]
        yield from search.race(rates)
        known = search.scores
        if not known:
            return None
        best, tried = search.best(known), sorted(search.trials)
        if tried[0] < best < tried[-1]:
            break
        powers = [min(powers) - 1 if best == tried[0] else max(powers) + 1]
        study.telling.board.pending[name] += 1
    rate, why = yield from search.settled()
    tell(search, rate, why)
    return rate


def tell(search: Search, rate: float, why: str) -> None:
    """Say and keep which rate was chosen, out of which."""
    study, short = search.study, search.metric.removeprefix("eval_")
    scores, tried = search.scores, sorted(search.trials)

    def outcome(each: float) -> str:
        return search.stopped.get(each) or score(scores.get(each), short) or "failed"

    listed = ", ".join(f"{each:g} ({outcome(each)})" for each in tried)
    inside = tried[0] < rate < tried[-1]
    edge = "" if inside else "; this is at the edge of the grid, whose middle is set by train.lr="
    on = f" on {study.first}" if study.first else ""
    best = f"{search.name}: {rate:g}, the best validation {short} of {counted(len(tried), 'trial')}{on}"
    study.chosen[search.name] = f"{best}: {listed}{f'; {why}' if why else ''}{edge}"
    study.telling.say(f"learning rate of {study.chosen[search.name]}")


def reached(trial: Trial) -> str:
    """What a run that is given up had come to: stopped at 50 %: 51.3 %."""
    pause, row = trial.run.read_json(PAUSE), row_of(trial.run)
    share = 100 * pause["step"] / pause["of"]
    return f"stopped at {share:.0f} %: {score(row['eval_score'], row['metric'])}"
