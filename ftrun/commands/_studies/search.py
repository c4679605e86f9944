"""The settings of each strategy by a search: trials drawn from its ranges, the default first."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftrun.commands._studies.settings import composed
from ftrun.commands._studies.study import SEARCH, TUNING_SEED, Plan, Study, Trial
from ftrun.errors import ConfigError, counted
from ftrun.experiments.queue.places import waits
from ftrun.reports.numbers import score
from ftrun.runs.config import digest
from ftrun.runs.run import PAUSE, is_run
from ftrun.settings.auto import AUTO
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from ftrun.commands._studies.ranges import Ranges
    from ftrun.experiments.study.trials import Trials
    from ftrun.experiments.study.values import Range

COMPLETE, PRUNED, FAIL, RUNNING = "COMPLETE", "PRUNED", "FAIL", "RUNNING"  # as Optuna calls them


@dataclass
class Search:
    """The search of one strategy, of whose trials several are made at the same time.

    A trial knows how those before it ended but for the last few, as many as may be under way beside it: what
    is drawn follows from the settings, whichever worker is quicker.
    """

    study: Study
    name: str
    own: list[str]  # its settings beside those searched
    asked: Ranges
    ranges: dict[str, Range]
    trials: Trials
    bases: dict[str, Any]  # the default of each setting, of `auto` what it came to

    @property
    def sign(self) -> int:
        return lookup(self.study.metric).sign

    def trial(self, words: Mapping[str, str], number: int) -> Trial:
        """The run of these settings, as a trial of that number, from 0."""
        from ftrun.experiments.study.pruning import rungs_of

        given = [*self.own, *self.study.tuning(), *(f"{key}={value}" for key, value in words.items())]
        aim = f"trial {number + 1} of {self.asked.count}{'' if number else ', the default'}"
        known = self.known(number)
        whole, others = self.curves(COMPLETE, known), self.curves(PRUNED, known)
        rungs = rungs_of(self.asked.pruner, whole, others, self.sign)
        return replace(Trial.of(self.study, SEARCH, self.name, given), aim=aim, rungs=rungs)

    def known(self, number: int) -> int:
        """How many trials the one of this number knows the end of: the first, and all but the last few.

        Others may have ended: before a kill, or where a larger number of trials is asked for.
        """
        return max(min(number, 1), number - self.asked.concurrent + 1)

    def curves(self, state: str, known: int) -> list[dict[int, float]]:
        """The scores of the known trials that ended so, by the number of the evaluation; more is better."""
        return [
            {number: self.sign * value for number, value in trial.intermediate_values.items()}
            for trial in self.trials.all[:known]
            if trial.state.name == state
        ]

    def following(self, number: int) -> Trial | None:
        """The run of the trial of this number, drawn now or earlier; None where there is none."""
        from ftrun.experiments.study.trials import worded

        there = self.trials.all
        if number < len(there):
            return self.trial(there[number].user_attrs["words"], number)
        if number >= self.asked.count:
            return None
        params = self.trials.drawn(self.ranges, self.bases, self.known(number))
        if params is None:
            return None
        values = worded(params, self.ranges, self.bases)
        made = self.trial(values, number)
        self.begin(made, params, values, values)
        return made

    def made(self) -> Plan:
        """Have the trials made that have not ended, and told in their order."""
        under_way: deque[tuple[int, Trial]] = deque()
        number, more = sum(trial.state.name != RUNNING for trial in self.trials.all), True
        while more or under_way:
            if more and len(under_way) < self.asked.concurrent:
                if more := (trial := self.following(number)) is not None:
                    self.study.begin(trial, race=True)
                    under_way.append((number, trial))
                    number += 1
            else:
                ended, trial = under_way.popleft()
                yield [trial]
                self.tell(ended, trial)

    def begin(
        self, trial: Trial, params: dict[str, Any], values: dict[str, str], words: dict[str, str]
    ) -> int:
        """Keep that a trial begins: what was drawn, all of its settings, and those that its command names."""
        run = str(trial.path.relative_to(self.study.directory))
        about = {"values": values, "words": words, "run": run, "title": trial.title}
        return self.trials.add(params, self.ranges, about)

    def tell(self, number: int, trial: Trial) -> None:
        """Keep how the run of a trial ended, that waits or failed too."""
        metric = self.study.metric
        curve, value = curve_of(trial, f"eval_{metric}"), trial.result.get(f"eval_{metric}")
        if waits(trial.path):
            pause = trial.run.read_json(PAUSE)
            best = max(curve.values(), key=lambda each: self.sign * each, default=None)
            reached = f"stopped at {100 * pause['step'] / pause['of']:.0f} %: {score(best, metric)}"
            self.trials.tell(number, PRUNED, curve, None, reached)
            self.study.give_up(trial, reached)
        elif value is None:
            message = (self.study.ledger.entry(trial.key) or {}).get("message", "it has no score")
            self.trials.tell(number, FAIL, curve, None, f"failed: {' '.join(message.split())}")
        else:
            self.trials.tell(number, COMPLETE, curve, value, f"{score(value, metric)} on validation")

    def best(self) -> FrozenTrial | None:
        """The whole trial with the best score, of equal ones the first; None where none is whole."""
        whole = [trial for trial in self.trials.all if trial.state.name == COMPLETE]
        return max(whole, key=lambda trial: self.sign * (trial.value or 0.0), default=None)


def curve_of(trial: Trial, metric: str) -> dict[int, float]:
    """The score at each evaluation of a run, counted from 1, where it is finite."""
    lines = [line for line in trial.run.metrics() if metric in line] if is_run(trial.path) else []
    return {at: line[metric] for at, line in enumerate(lines, 1) if line[metric] is not None}


def best_settings(study: Study, name: str, own: list[str], asked: Ranges) -> Plan:
    """The settings of a strategy's best trial on validation; None where it cannot be trained."""
    from ftrun.experiments.study.ranges import fitting
    from ftrun.experiments.study.trials import DATABASE, Trials

    if not asked.trials(name):
        return own
    plain = composed([*study.words, f"strategy={name}", *own, *study.tuning()])
    try:
        ranges, left = fitting(plain, asked.of[name])
    except ConfigError:  # the run of the default says so too
        ranges, left = asked.of[name], []
    begin = beginning(plain, ranges)
    first = Trial.of(study, SEARCH, name, [*own, *study.tuning(), *(f"{key}={begin[key]}" for key in begin)])
    content = [first.key, {key: repr(each) for key, each in ranges.items()}, asked.pruner]
    trials = Trials(
        study.directory / DATABASE,
        f"{name}-{digest(content)[:8]}",
        lookup(study.metric).sign > 0,
        TUNING_SEED,
    )
    try:
        search = Search(study, name, own, asked, ranges, trials, {})
        if not (yield from started(search, begin)):
            study.telling.board.pending[name] = 0
            return None
        yield from search.made()
        study.telling.board.pending[name] -= max(0, asked.count - len(trials.all))
        return settled(search, left)
    finally:
        trials.close()


def beginning(raw: dict[str, Any], ranges: Mapping[str, Range]) -> dict[str, str]:
    """What the first trial sets: values of ranges that leave out the default."""
    from ftrun.settings.checks import found_in

    defaults = {key: found_in(raw, key)[1] for key in ranges}
    nearest = {key: each.nearest(defaults[key]) for key, each in ranges.items() if defaults[key] != AUTO}
    return {key: value for key, value in nearest.items() if value is not None}


def started(search: Search, begin: dict[str, str]) -> Plan:
    """Make the first trial, the default, and find what ranges are multiples of; False where it never began.

    Of trials that ended in an earlier call, a line each.
    """
    from ftrun.experiments.study.values import begun_with, is_base
    from ftrun.settings.checks import found_in

    study, known = search.study, search.trials.all
    first = search.trial(begin, 0)
    if not known or not is_run(first.path):
        yield from study.made([first])
    config = first.run.config if is_run(first.path) else {}
    search.bases = {key: found_in(config, key)[1] for key in search.ranges}
    bad = [key for key, each in search.ranges.items() if not is_base(each, search.bases[key])]
    if not config or any(search.bases[key] == AUTO for key in bad):
        return False
    for key in bad:  # of a hold that came to nothing
        del search.ranges[key]
    if not known:
        found = {key: begun_with(each, search.bases[key]) for key, each in search.ranges.items()}
        params = {key: drawn for key, (drawn, _) in found.items() if drawn is not None}
        values = {key: written for key, (_, written) in found.items()}
        search.tell(search.begin(first, params, values, begin), first)
    for trial in known:
        if trial.state.name != RUNNING:
            told = trial.user_attrs
            outcome = f"{told['outcome']} · already finished"
            study.telling.board.done(search.name, "", told["title"], outcome, now=False)
    return True


def settled(search: Search, left: list[str]) -> list[str] | None:
    """The settings to use, and a line in the study of how they were found."""
    from ftrun.experiments.study.values import is_near_end

    study, best, known = search.study, search.best(), search.trials.all
    ended = Counter(trial.state.name for trial in known)
    if best is None:
        return None
    outcome, values = best.user_attrs["outcome"], best.user_attrs["values"]
    named = " ".join(f"{key}={value}" for key, value in values.items())
    default = f"the default, {known[0].user_attrs['outcome']}" if best.number else "the default"
    on = f" on {study.first}" if study.first else ""
    parts = [f"{search.name}: {named}, {outcome}{on}, the best of {counted(len(known), 'trial')}", default]
    counts = {f"{ended[FAIL]} failed": ended[FAIL], f"{ended[PRUNED]} stopped on the way": ended[PRUNED]}
    parts += [text for text, count in counts.items() if count]
    if len(known) < search.asked.count:
        parts.append("there are no others in its ranges")
    if left:
        parts.append(f"the network has no parts for {', '.join(left)}")
    ends = [key for key, drawn in best.params.items() if is_near_end(search.ranges[key], drawn)]
    parts += [f"{key} is near the end of its range" for key in ends]
    parts.append("searched: " + ", ".join(f"{key}={each.text}" for key, each in search.ranges.items()))
    study.chosen[search.name] = "; ".join(parts)
    study.telling.say(f"search of {study.chosen[search.name]}")
    return [*search.own, *(f"{key}={value}" for key, value in best.user_attrs["words"].items())]
