"""A study before its first run: who makes its runs, how many they are, and how long they take."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ftrun.commands._studies.ranges import Ranges
from ftrun.commands._studies.settings import POWERS, composed
from ftrun.commands._studies.study import RUNS, Study, Trial
from ftrun.errors import ConfigError, UserError, counted
from ftrun.reports.numbers import roughly

if TYPE_CHECKING:
    from ftrun.experiments.queue.launcher import Launching


def launched(options: argparse.Namespace) -> tuple[Launching, list[str]]:
    """Who makes the runs, and the settings of all of them; ConfigError for others of Hydra's words."""
    from ftrun.experiments.queue.launcher import Launching, launching_words
    from ftrun.training.processes.launchers import refuse_sweep

    own, rest = launching_words(options.settings)
    for word in rest:
        if word.lstrip("+~").startswith(("hydra.", "hydra/")):
            raise ConfigError(
                f"compare: {word} cannot be set here; possible: hydra/launcher=here, local, ray, slurm, with"
                " hydra.launcher.NAME=, and --dir DIR"
            )
    launching = Launching.asked(own)
    if not launching.inside:
        refuse_sweep(" ".join(own), "ftrun compare …")
    steps, _ = budget(options.budget)
    return launching, [*rest, *([f"train.max_steps={steps}"] if steps else [])]


def budget(text: str | None) -> tuple[int | None, float | None]:
    """The steps or minutes of steps=N or minutes=M."""
    if text is None:
        return None, None
    kind, _, value = text.partition("=")
    try:
        if kind == "steps" and int(value) > 0:
            return int(value), None
        if kind == "minutes" and float(value) > 0:
            return None, float(value)
    except ValueError:
        pass
    raise ConfigError(f"compare: --budget {text}: expected steps=N or minutes=M of training per run, above 0")


def planned(study: Study, options: argparse.Namespace, ranges: Ranges) -> None:
    """Say how many runs there will be, of what, how long and how large; time a few steps of each kind.

    Raises DataError where the rows cannot be read.
    """
    from ftrun.experiments.planning import outlook
    from ftrun.experiments.study.cost import Cost
    from ftrun.experiments.study.costing import costs_of
    from ftrun.experiments.study.summary import total_of

    names = study.names
    raws = {name: composed([*study.words, f"strategy={name}", *study.tuning()]) for name in names}
    begin = time.perf_counter()
    found = outlook(raws)
    costs: dict[str, Cost] = {}
    for way in found.ways:
        try:
            costs |= {name: cost for name, cost in costs_of([way]).items() if cost is not None}
        except UserError as error:  # its own run will fail with it
            study.telling.say(f"{way.name} cannot be timed: {error}")
    minutes = budget(options.budget)[1]
    if minutes is not None:
        timed = {way.name for way in found.ways if not way.settings.strategy.solved}
        costs |= {name: replace(costs[name], train=60 * minutes) for name in timed & {*costs}}
    study.telling.board.predicted.update({name: cost.seconds for name, cost in costs.items()})
    pending, compared = study.telling.board.pending, options.seeds * len(study.tests)
    pending.update(names)  # of one that does not fit the network, the run that will say so
    for way in found.ways:
        first = (minutes is not None) + len(POWERS) * (options.lr == "grid") + ranges.trials(way.name)
        if way.settings.strategy.solved:
            study.solved.add(way.name)
        study.metric = way.metric
        pending[way.name] = compared + (0 if way.name in study.solved else first)
    both = [f"{counted(compared * len(found.ways), 'run')} to compare"]
    if before := pending.total() - compared * len(found.ways):
        both.append(f"{before}{' or more' * (options.lr == 'grid')} that prepare them")
    known = {name: pending[name] for name in costs}
    trials = {name: count - compared for name, count in known.items()}
    cost = f": {total_of(costs, known, 0.0, trials)}" if costs and len(costs) == len(found.ways) else ""
    took = roughly(time.perf_counter() - begin)
    study.telling.say(f"{' and '.join(both)}, of {', '.join(names)}{cost} (timed in {took})")


def dry(study: Study, launching: Launching) -> int:
    """Say who would make the runs and how long it would take; nothing is written. The exit code."""
    engine = launching.engine(study.telling)
    board = study.telling.board
    study.begin(Trial.of(study, RUNS, study.names[0], ["seed=0", *study.tests[0]]))
    engine.open(study.ledger.directory, study.taken(), board.pending.total())
    try:
        board.workers = engine.workers()
        left = board.left()
        took = f" in about {roughly(left)}" if left else ""
        print(f"they would be made {engine.describe()}{took}; nothing was started", flush=True)
    finally:
        engine.close()
    return 0
