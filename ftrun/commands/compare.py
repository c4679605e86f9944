"""Compare strategies on one task fairly: a learning rate tuned for each, several seeds, paired tests."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.commands._parser import Parser
from ftrun.commands._studies.planned import budget, dry, launched, planned
from ftrun.commands._studies.ranges import Ranges, alone, refuse_search, searching
from ftrun.commands._studies.rates import best_rate
from ftrun.commands._studies.search import best_settings
from ftrun.commands._studies.settings import SEEDS, STRATEGIES, composed, keys_of, refuse_no_seeds
from ftrun.commands._studies.study import PILOTS, RUNS, Plan, Study, Trial
from ftrun.errors import ConfigError, DiskFull, UserError, disk_full
from ftrun.runs.files import existing, why_unwritable
from ftrun.runs.home import files_of
from ftrun.runs.protected import refuse_directory, refuse_output
from ftrun.runs.run import RESULT, is_run
from ftrun.runs.typed import command
from ftrun.runs.warm import shared
from ftrun.training.processes.ranks import continued_by

if TYPE_CHECKING:
    from ftrun.experiments.queue.launcher import Launching

PILOT = 20  # optimizer steps that measure the time per step


@shared()
def main(arguments: list[str]) -> int:
    """Run the study; the exit code is 1 if a run failed."""
    from ftrun.experiments.overrides import every_test

    options = parse(arguments)
    launching, given = launched(options)
    names = list(dict.fromkeys(options.strategies.split(",")))
    words, tests = every_test(given)
    ranges, words = Ranges.taken_out(words, options.search, options.prune, options.concurrent)
    directory = Path(options.dir or place(given, options))
    refuse_places(options, directory)
    study = Study(words, tests, directory, names, launching.processes)
    raw = refuse_mistakes(study, ranges)
    if options.output is not None:
        refuse_output("compare: --output ", Path(options.output), files_of(raw))
    place_of_it = [] if options.dir else ["--dir", str(directory)]
    again = command("compare", *arguments, *place_of_it)
    try:
        planned(study, options, ranges)
        if launching.dry:
            return dry(study, launching)
        print(f"study in {directory}: to continue it or to add seeds, repeat the command", flush=True)
        with study.telling.board.shown(), continued_by(f"to continue: {again}"):
            conduct(study, launching, options, ranges)
        finish(study, options, ranges)
    except (KeyboardInterrupt, OSError, DiskFull) as error:
        if isinstance(error, OSError) and disk_full(error) is None:
            raise
        try:
            finish(study, options, ranges, whole=False)
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


def refuse_mistakes(study: Study, ranges: Ranges) -> dict[str, Any]:
    """Raises ConfigError and DataError before the first run; the settings of one."""
    from ftrun.experiments.making import looked

    tests, names = study.tests, study.names
    for name, test in [*((name, tests[0]) for name in names), *((names[0], test) for test in tests[1:])]:
        words = [*study.words, *test, f"strategy={name}"]
        raw = composed(words)
        ranges.look_up(name, raw, words)
        if not study.directory.exists():
            looked(raw)
    ranges.refuse_unused()
    return raw


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


def place(words: list[str], options: argparse.Namespace) -> Path:
    """The directory of a study with these settings, whatever its strategies and number of seeds."""
    text = "\n".join([*sorted(words), str(options.budget), options.lr, os.getcwd()])
    return Path("outputs") / f"compare-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def conduct(study: Study, launching: Launching, options: argparse.Namespace, ranges: Ranges) -> None:
    """Have each strategy's settings found, and the runs made that are compared."""
    engine = launching.engine(study.telling)
    with alone(ranges, study.directory):
        study.conduct(
            engine, launching.retries, [strategy(study, name, options, ranges) for name in study.names]
        )


def strategy(study: Study, name: str, options: argparse.Namespace, ranges: Ranges) -> Plan:
    """Find a strategy's settings, then have its runs made."""
    own = yield from prepared(study, name, options, ranges)
    if own is not None:
        for turn, (seed, test) in enumerate(itertools.product(range(options.seeds), study.tests)):
            trial = Trial.of(study, RUNS, name, [*own, f"seed={seed}", *test])
            study.begin(replace(trial, turn=turn))


def prepared(study: Study, name: str, options: argparse.Namespace, ranges: Ranges) -> Plan:
    """A strategy's own settings: its steps, its rate or what is searched; None if it cannot be trained."""
    own: list[str] = []
    if name in study.solved:
        return own  # neither steps nor a rate
    if (minutes := budget(options.budget)[1]) is not None:
        pilot = Trial.of(study, PILOTS, name, [f"train.max_steps={PILOT}", *study.tuning()])
        yield from study.made([pilot])
        if not study.finished(pilot):
            return None
        spent = (pilot.run.read_json("cost.json") or {}).get("train_seconds")
        if not spent:
            raise UserError(f"{pilot.path / 'cost.json'} is damaged: it has no train_seconds")
        own = [f"train.max_steps={max(1, int(60 * minutes * pilot.run.result('steps')['steps'] / spent))}"]
    if options.lr == "search":
        return (yield from best_settings(study, name, own, ranges))
    if options.lr != "grid":
        return own
    rate = yield from best_rate(study, name, own)
    return None if rate is None else [*own, f"train.lr={rate}"]


def finish(study: Study, options: argparse.Namespace, ranges: Ranges, whole: bool = True) -> None:
    """Write the report of the runs, with how the learning rates were chosen, and show it on the terminal too.

    Of an interrupted study, which is not the `whole`, it has the finished runs, if any.
    """
    from ftrun.reports import table
    from ftrun.reports.pages.page import Section
    from ftrun.runs.terminal import say

    made = [study.runs[rank].path for rank in sorted(study.runs)]
    paths = [path for path in made if is_run(path) and (whole or (path / RESULT).is_file())]
    if not paths:
        if whole:
            raise UserError(f"no run in {study.directory} finished: {'; '.join(study.failed)}")
        return
    runs = [str(path) for path in paths]
    title = "Search" if options.search else "Learning rates"
    chosen = ranges.told(study.names, study.solved)
    chosen += [study.chosen[name] for name in study.names if name in study.chosen]
    extra = [Section(title, lines=chosen, detail=True)] if chosen else []
    if study.failed:
        extra.append(Section("Failed", lines=study.failed))
    if options.output is not None:
        table.write(runs, options.format, options.output, extra=extra)
    table.write(runs, options.format if options.output is None else "table", extra=extra)
    if options.output is not None:
        say(f"saved: {options.output}")
