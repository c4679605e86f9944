"""Compare strategies on one task fairly: a learning rate tuned for each, several seeds, paired tests."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
from pathlib import Path
from typing import Any

from ftrun.commands._parser import Parser
from ftrun.commands._settings import POWERS, SEEDS, STRATEGIES, composed, keys_of, refuse_no_seeds
from ftrun.commands._study import Plan, rate_tried, trial
from ftrun.errors import ConfigError, UserError, counted
from ftrun.reports.numbers import score
from ftrun.runs.ledger import Ledger
from ftrun.runs.run import is_run
from ftrun.runs.warm import shared
from ftrun.tasks.metrics.metric import lookup

STEP = 10**0.5  # factor between the rates of a grid
EXTENSIONS = 6  # how often a grid grows where its best rate is at an edge
PILOT = 20  # optimizer steps that measure the time per step


def main(arguments: list[str]) -> int:
    """Run the study; the exit code is 1 if a run failed."""
    from ftrun.experiments.overrides import every_test

    options = parse(arguments)
    names = options.strategies.split(",")
    steps, minutes = budget(options.budget)
    given = [*options.settings, *(of_steps(steps, options.settings) if steps else [])]
    words, tests = every_test(given)
    first = [(name, tests[0]) for name in names]
    for name, test in [*first, *((names[0], test) for test in tests[1:])]:
        raw = composed([*words, *test, f"strategy={name}"])  # mistakes are reported before the first run
    readable(raw)
    directory = Path(options.dir or place(given, options))
    plan = Plan(words, tests, directory, Ledger(directory))
    print(f"study in {directory}: to continue it or to add seeds, repeat the command", flush=True)
    with shared():
        ready = {name: prepared(plan, name, minutes, options.lr == "grid") for name in names}
        for seed, test in itertools.product(range(options.seeds), tests):
            for name, own in ready.items():
                if own is not None:
                    trial(plan, "runs", name, [*own, f"seed={seed}", *test])
    finish(plan, options)
    return 1 if plan.failed else 0


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
        default="grid",
        help="tune each strategy's learning rate on validation, or keep its default; default: %(default)s",
    )
    add("--dir", metavar="DIR", help="directory of the study; default: one derived from the settings")
    add(
        "--format",
        choices=["table", "markdown", "html", "csv"],
        help="format of the report; default: table, or the format that FILE ends with",
    )
    add("--output", metavar="FILE", help="write the report to FILE")
    options = parser.parse_intermixed_args(arguments)
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


def of_steps(steps: int, given: list[str]) -> list[str]:
    """Settings for this number of steps with ten evaluations, where the user has not set them."""
    own = [f"train.max_steps={steps}", "train.eval_every=0.1"]
    keys = {word.partition("=")[0] for word in given}
    return [word for word in own if word.partition("=")[0] not in keys or "max_steps" in word]


def place(words: list[str], options: argparse.Namespace) -> Path:
    """The directory of a study with these settings, whatever its strategies and number of seeds."""
    text = "\n".join([*sorted(words), str(options.budget), options.lr, os.getcwd()])
    return Path("outputs") / f"compare-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def readable(raw: dict[str, Any]) -> None:
    """Raises DataError if the rows of the task cannot be read."""
    from ftrun.settings.read import read

    read(raw).task.load(raw["seed"])


def prepared(plan: Plan, name: str, minutes: float | None, grid: bool) -> list[str] | None:
    """A strategy's own settings, its steps and its rate; None if it cannot be trained."""
    from ftrun.experiments.planning import solved

    own: list[str] = []
    if solved(composed([*plan.words, *plan.tests[0], f"strategy={name}"])):
        return own  # neither steps nor a rate
    if minutes is not None:
        pilot = trial(plan, "pilots", name, [f"train.max_steps={PILOT}", *plan.tuning])
        if pilot is None:
            return None
        cost = pilot.read_json("cost.json")
        done = pilot.read_json("result.json")["steps"]
        own = of_steps(max(1, int(60 * minutes * done / cost["train_seconds"])), plan.words)
    if not grid:
        return own
    rate = best_rate(plan, name, own)
    return None if rate is None else [*own, f"train.lr={rate}"]


def best_rate(plan: Plan, name: str, own: list[str]) -> float | None:
    """The rate with the best validation score, from a grid around the default that grows at its edges."""
    words = [*own, *plan.tuning]
    default = trial(plan, "grid", name, words)
    middle = rate_tried(plan, [*plan.words, f"strategy={name}", *words])
    if middle is None:
        return None
    metric: str | None = None
    powers, found, losses = list(POWERS), {}, {}
    for _ in range(EXTENSIONS + 1):
        for power in powers:
            rate = float(f"{middle * STEP**power:.2g}") if power else middle
            if rate not in found:  # at equal scores the lower loss wins
                run = trial(plan, "grid", name, [*words, f"train.lr={rate}"]) if power else default
                result = run.read_json("result.json") if run else {}
                metric = result.get("metric", metric)
                found[rate] = result.get(metric)
                losses[rate] = result.get("eval_loss")
        known = {rate: value for rate, value in found.items() if value is not None}
        if not known:
            return None
        sign = lookup(metric).sign
        best = max(known, key=lambda rate: (sign * known[rate], -(losses[rate] or 0.0)))
        if min(found) < best < max(found):
            break
        powers = [min(powers) - 1 if best == min(found) else max(powers) + 1]
    short = (metric or "").removeprefix("eval_")
    tried = ", ".join(f"{rate:g} ({score(found[rate], short) or 'failed'})" for rate in sorted(found))
    inside = min(found) < best < max(found)
    edge = "" if inside else "; this is at the edge of the grid, whose middle is set by train.lr="
    on = f" on {plan.first}" if plan.first else ""
    plan.chosen.append(
        f"{name}: {best:g}, the best validation {short} of {counted(len(found), 'trial')}{on}: {tried}{edge}"
    )
    print(f"learning rate of {plan.chosen[-1]}", flush=True)
    return best


def finish(plan: Plan, options: argparse.Namespace) -> None:
    """Write the report of the runs, with how the learning rates were chosen."""
    from ftrun.reports import table
    from ftrun.reports.pages.page import Section

    runs = [str(path) for path in plan.runs if is_run(path)]
    if not runs:
        raise UserError(f"no run in {plan.directory} finished: {'; '.join(plan.failed)}")
    extra = [Section("Learning rates", lines=plan.chosen, detail=True)] if plan.chosen else []
    if plan.failed:
        extra.append(Section("Failed", lines=plan.failed))
    table.write(runs, options.format, options.output, extra=extra)
