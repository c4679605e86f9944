"""Compare strategies on one task fairly: a learning rate tuned for each, several seeds, paired tests."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import time
from dataclasses import replace
from pathlib import Path

from ftrun.commands._parser import Parser
from ftrun.commands._ranges import Ranges, alone, refuse_search, searching
from ftrun.commands._rates import best_rate
from ftrun.commands._search import best_settings
from ftrun.commands._settings import POWERS, SEEDS, STRATEGIES, composed, keys_of, refuse_no_seeds
from ftrun.commands._study import PILOTS, RUNS, Study, Trial, make
from ftrun.errors import ConfigError, DiskFull, Interrupted, UserError, counted, disk_full
from ftrun.experiments.study.board import Board
from ftrun.reports.numbers import roughly
from ftrun.runs.files import existing, why_unwritable
from ftrun.runs.home import files_of
from ftrun.runs.ledger import Ledger
from ftrun.runs.protected import refuse_directory, refuse_output
from ftrun.runs.run import RESULT, is_run
from ftrun.runs.typed import command
from ftrun.runs.warm import shared
from ftrun.training.processes.ranks import continued_by

PILOT = 20  # optimizer steps that measure the time per step


@shared()
def main(arguments: list[str]) -> int:
    """Run the study; the exit code is 1 if a run failed."""
    from ftrun.experiments.making import looked
    from ftrun.experiments.overrides import every_test

    options = parse(arguments)
    names = options.strategies.split(",")
    steps, _ = budget(options.budget)
    given = [*options.settings, *([f"train.max_steps={steps}"] if steps else [])]
    words, tests = every_test(given)
    ranges, words = Ranges.taken_out(words, options.search, options.prune)
    first = [(name, tests[0]) for name in names]
    directory = Path(options.dir or place(given, options))
    refuse_places(options, directory)
    for name, test in [*first, *((names[0], test) for test in tests[1:])]:
        raw = composed([*words, *test, f"strategy={name}"])  # mistakes are reported before the first run
        ranges.look_up(name, raw, [*words, *test, f"strategy={name}"])
        if not directory.exists():
            looked(raw)
    ranges.refuse_unused()
    if options.output is not None:
        refuse_output("compare: --output ", Path(options.output), files_of(raw))
    study = Study(words, tests, directory, Ledger(directory), Board())
    place_of_it = [] if options.dir else ["--dir", str(directory)]
    again = command("compare", *arguments, *place_of_it)
    try:
        planned(study, names, options, ranges)
        print(f"study in {directory}: to continue it or to add seeds, repeat the command", flush=True)
        with study.board.shown(), continued_by(f"to continue: {again}"):
            conduct(study, names, options, ranges)
        finish(study, options)
    except (Interrupted, KeyboardInterrupt, OSError, DiskFull) as error:
        if isinstance(error, OSError) and disk_full(error) is None:
            raise
        try:
            finish(study, options, whole=False)
        finally:
            print(f"to continue: {again}", flush=True)
        raise
    return 1 if study.failed else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="ftrun compare", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("settings", nargs="*", metavar="key=value", help="settings of every run")
    add(
        "--strategies",
        default=STRATEGIES,
        help="names with commas; default: %(default)s",
    )
    add(
        "--seeds",
        type=int,
        default=SEEDS,
        help="number of runs of each strategy, with seeds 0, 1, …; default: %(default)s",
    )
    add("--budget", metavar="steps=N|minutes=M", help="training of each run; default: train.epochs")
    add(
        "--lr",
        choices=["grid", "default"],
        help="tune each strategy's learning rate on validation, or keep its default; default: grid",
    )
    searching(parser)
    add("--dir", metavar="DIR", help="directory of the study; default: one derived from the settings")
    add(
        "--format",
        choices=["table", "markdown", "html", "csv"],
        help="format of the report; default: table, or the format that FILE ends with",
    )
    add("--output", metavar="FILE", help="write the report to FILE")
    options = parser.parse_intermixed_args(arguments)
    refuse_search("compare", options, options.lr)
    options.lr = options.lr or ("search" if options.search else "grid")
    check(options)
    return options


def check(options: argparse.Namespace) -> None:
    """Raises ConfigError for options and settings that a study cannot have."""
    refuse_no_seeds("compare", options.seeds)
    for key in keys_of("compare", options.settings):
        if key in ("strategy", "seed", "sequence"):
            raise ConfigError(
                f"compare: {key}= cannot be set here; use --strategies and --seeds, with one task"
            )


def refuse_places(options: argparse.Namespace, directory: Path) -> None:
    """Raises ConfigError where the study's directory cannot be one."""
    if options.dir is not None:
        refuse_directory("compare: --dir ", directory)
        if is_run(directory):
            raise ConfigError(f"compare: --dir {directory} is a run; name another directory")
    if reason := why_unwritable(existing(directory)):
        raise ConfigError(f"compare: --dir {directory}: nothing can be written there ({reason})")


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


def place(words: list[str], options: argparse.Namespace) -> Path:
    """The directory of a study with these settings, whatever its strategies and number of seeds."""
    text = "\n".join([*sorted(words), str(options.budget), options.lr, os.getcwd()])
    return Path("outputs") / f"compare-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def planned(study: Study, names: list[str], options: argparse.Namespace, ranges: Ranges) -> None:
    """Say how many runs there will be, of what, how long and how large; time a few steps of each kind.

    Raises DataError where the rows cannot be read.
    """
    from ftrun.experiments.planning import outlook
    from ftrun.experiments.study.cost import Cost
    from ftrun.experiments.study.costing import costs_of
    from ftrun.experiments.study.summary import total_of

    raws = {name: composed([*study.words, f"strategy={name}", *study.tuning()]) for name in names}
    begin = time.perf_counter()
    found = outlook(raws)
    costs: dict[str, Cost] = {}
    for way in found.ways:
        try:
            costs |= {name: cost for name, cost in costs_of([way]).items() if cost is not None}
        except UserError as error:  # its own run will fail with it
            study.board.say(f"{way.name} cannot be timed: {error}")
    minutes = budget(options.budget)[1]
    if minutes is not None:
        timed = {way.name for way in found.ways if not way.settings.strategy.solved}
        costs |= {name: replace(costs[name], train=60 * minutes) for name in timed & {*costs}}
    study.board.predicted.update({name: cost.seconds for name, cost in costs.items()})
    pending, compared = study.board.pending, options.seeds * len(study.tests)
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
    study.board.say(f"{' and '.join(both)}, of {', '.join(names)}{cost} (timed in {took})")


def conduct(study: Study, names: list[str], options: argparse.Namespace, ranges: Ranges) -> None:
    """Find each strategy's settings, then make the runs that are compared."""
    _, minutes = budget(options.budget)
    with alone(ranges, study.directory):
        ready = {name: prepared(study, name, minutes, options.lr, ranges) for name in names}
    study.chosen[:0] = ranges.told(names, study.solved)
    for seed, test in itertools.product(range(options.seeds), study.tests):
        for name in names:
            if (own := ready[name]) is not None:
                make(study, Trial.of(study, RUNS, name, [*own, f"seed={seed}", *test]))


def prepared(study: Study, name: str, minutes: float | None, tuned: str, ranges: Ranges) -> list[str] | None:
    """A strategy's own settings: its steps, its rate or what is searched; None if it cannot be trained."""
    own: list[str] = []
    if name in study.solved:
        return own  # neither steps nor a rate
    if minutes is not None:
        pilot = Trial.of(study, PILOTS, name, [f"train.max_steps={PILOT}", *study.tuning()])
        if not make(study, pilot):
            return None
        spent = (pilot.run.read_json("cost.json") or {}).get("train_seconds")
        if not spent:
            raise UserError(f"{pilot.path / 'cost.json'} is damaged: it has no train_seconds")
        own = [f"train.max_steps={max(1, int(60 * minutes * pilot.run.result('steps')['steps'] / spent))}"]
    if tuned == "search":
        return best_settings(study, name, own, ranges)
    if tuned != "grid":
        return own
    rate = best_rate(study, name, own)
    return None if rate is None else [*own, f"train.lr={rate}"]


def finish(study: Study, options: argparse.Namespace, whole: bool = True) -> None:
    """Write the report of the runs, with how the learning rates were chosen, and show it on the terminal too.

    Of an interrupted study, which is not the `whole`, it has the finished runs, if any.
    """
    from ftrun.reports import table
    from ftrun.reports.pages.page import Section

    paths = [path for path in study.runs if is_run(path) and (whole or (path / RESULT).is_file())]
    if not paths:
        if whole:
            raise UserError(f"no run in {study.directory} finished: {'; '.join(study.failed)}")
        return
    runs = [str(path) for path in paths]
    title = "Search" if options.search else "Learning rates"
    extra = [Section(title, lines=study.chosen, detail=True)] if study.chosen else []
    if study.failed:
        extra.append(Section("Failed", lines=study.failed))
    if options.output is not None:
        table.write(runs, options.format, options.output, extra=extra)
    table.write(runs, options.format if options.output is None else "table", extra=extra)
