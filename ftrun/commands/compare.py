"""Several strategies on one task, fairly: each with its own learning rate, over seeds, tested in pairs."""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ftrun.errors import ConfigError, Interrupted, UserError
from ftrun.reports.summary import lower_is_better, score
from ftrun.runs.ledger import Ledger, key_of
from ftrun.runs.run import Run, is_run

TUNING_SEED = 1000  # no seed of the study, so that what chooses the rate is not what is reported
STEP = 10**0.5  # between the rates of a grid
EXTENSIONS = 6  # how often a grid grows where its best rate is at an edge
PILOT = 20  # optimizer steps from which the time of one is taken


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the rest of ftrun does."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"compare: {message}")


@dataclass
class Plan:
    """What is asked for, and the runs so far."""

    words: list[str]  # key=value, the same for all strategies
    directory: Path
    ledger: Ledger
    failed: list[str] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)  # of this study, from now or before, with this code
    chosen: list[str] = field(default_factory=list)  # how each strategy came to its rate


def main(arguments: list[str]) -> int:
    """Entry point; exit code 1 when a run failed."""
    options = parse(arguments)
    names = options.strategies.split(",")
    steps, minutes = budget(options.budget)
    words = [*options.settings, *(of_steps(steps, options.settings) if steps else [])]
    for name in names:  # whatever is wrong with any of them is said before the first one runs
        raw = settled([*words, f"strategy={name}"])
    readable(raw)
    directory = Path(options.dir or place(words, options))
    plan = Plan(words, directory, Ledger(directory))
    print(f"study in {directory}: to go on or to add seeds, repeat the command", flush=True)
    ready = {name: prepared(plan, name, minutes, options.lr == "grid") for name in names}
    for seed in range(options.seeds):
        for name, own in ready.items():
            if own is not None:
                trial(plan, "runs", name, [*own, f"seed={seed}"])
    finish(plan, options)
    return 1 if plan.failed else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="ftrun compare", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("settings", nargs="*", metavar="key=value", help="settings that hold for every run")
    add("--strategies", default="full,freeze,linear_probe,lora", help="default: %(default)s")
    add("--seeds", type=int, default=3, help="runs of each strategy, seeds 0, 1, …; default: %(default)s")
    add("--budget", metavar="steps=N|minutes=M", help="the same for all; else train.epochs")
    add("--lr", choices=["grid", "default"], default="grid", help="each strategy's own best of 3 or more")
    add("--dir", help="the study's directory; else one that belongs to these settings")
    add("--format", choices=["table", "markdown", "html", "csv"], help="of the report")
    add("--output", metavar="FILE", help="write the report there")
    options = parser.parse_intermixed_args(arguments)
    if options.seeds < 1:
        raise ConfigError(f"compare: --seeds is at least 1, not {options.seeds}")
    for word in options.settings:
        key, equals, _ = word.partition("=")
        if not equals:
            raise ConfigError(f"compare: '{word}' is not key=value")
        if key in ("strategy", "seed", "sequence"):
            raise ConfigError(f"compare: {key}= is chosen by --strategies and --seeds; one task at a time")
    return options


def budget(text: str | None) -> tuple[int | None, float | None]:
    """steps=N or minutes=M as numbers."""
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
    raise ConfigError(f"compare: --budget {text}: steps=N or minutes=M of training for each run, above 0")


def of_steps(steps: int, said: list[str]) -> list[str]:
    """So many steps whatever the number of rows, with ten evaluations."""
    own = [f"train.max_steps={steps}", "train.eval_every=0.1"]
    keys = {word.partition("=")[0] for word in said}
    return [word for word in own if word.partition("=")[0] not in keys or "max_steps" in word]


def place(words: list[str], options: argparse.Namespace) -> Path:
    """The directory that belongs to the settings, whatever the strategies and the number of seeds."""
    text = "\n".join([*sorted(words), str(options.budget), options.lr, os.getcwd()])
    return Path("outputs") / f"compare-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def settled(words: list[str]) -> dict[str, Any]:
    """The resolved settings of a run; ConfigError for whatever is wrong in them."""
    from ftrun.experiments.launch import compose, sourced, with_model_of_source
    from ftrun.settings.schema import read

    spelt = [part for word in words for part in sourced(word)]
    raw = with_model_of_source(compose(spelt), spelt)
    read(raw)
    return raw


def readable(raw: dict[str, Any]) -> None:
    """DataError for rows that cannot be read, which no run of the study could."""
    from ftrun.settings.schema import read

    read(raw).task.read(raw["seed"])


def prepared(plan: Plan, name: str, minutes: float | None, grid: bool) -> list[str] | None:
    """A strategy's own words: its steps and its rate; None when it cannot be trained."""
    own: list[str] = []
    if minutes is not None:
        pilot = trial(plan, "pilots", name, [f"train.max_steps={PILOT}", f"seed={TUNING_SEED}"])
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
    """The rate of the best validation score, from a grid around the strategy's own growing at its edges."""
    middle = settled([*plan.words, f"strategy={name}", *own])["train"]["lr"]
    metric: str | None = None
    powers, found, losses = [-1, 0, 1], {}, {}
    for _ in range(EXTENSIONS + 1):
        for power in powers:
            rate = float(f"{middle * STEP**power:.2g}")
            if rate not in found:  # at equal scores the lower loss wins
                run = trial(plan, "grid", name, [*own, f"train.lr={rate}", f"seed={TUNING_SEED}"])
                result = run.read_json("result.json") if run else {}
                metric = result.get("metric", metric)
                found[rate] = result.get(metric)
                losses[rate] = result.get("eval_loss")
        known = {rate: value for rate, value in found.items() if value is not None}
        if not known:
            return None
        sign = -1 if lower_is_better(metric) else 1
        best = max(known, key=lambda rate: (sign * known[rate], -(losses[rate] or 0.0)))
        if min(found) < best < max(found):
            break
        powers = [min(powers) - 1 if best == min(found) else max(powers) + 1]
    short = (metric or "").removeprefix("eval_")
    tried = ", ".join(f"{rate:g} ({score(found[rate], short) or 'failed'})" for rate in sorted(found))
    edge = "" if min(found) < best < max(found) else "; it is at the edge of them, train.lr= sets the middle"
    plan.chosen.append(f"{name}: {best:g} by validation {short}, of {len(found)} trials: {tried}{edge}")
    print(f"learning rate of {plan.chosen[-1]}", flush=True)
    return best


def trial(plan: Plan, folder: str, name: str, own: list[str]) -> Run | None:
    """The finished run of these settings, made now or before; None when it failed, which is shown."""
    from ftrun.experiments.launch import one, show

    words = [*plan.words, f"strategy={name}", *own]
    raw = settled(words)
    key = key_of(raw)
    path = plan.ledger.place_of(key)
    if path is not None:
        print(f"there already: {' '.join([f'strategy={name}', *own])}", flush=True)
        plan.runs += [path] if folder == "runs" else []
        return Run.open(path)
    path = plan.directory / folder / f"{name}-lr{raw['train']['lr']:g}-seed{raw['seed']}-{key[:6]}"
    print(f"run: {' '.join([f'strategy={name}', *own])}", flush=True)
    plan.runs += [path] if folder == "runs" else []
    try:
        one(raw, path, again=True)
    except Interrupted:
        raise
    except Exception as error:  # shown with its traceback; the other runs of the study go on, as in a sweep
        show(error, " ".join(words))
        plan.failed.append(f"{path.name}: {error}")
        plan.ledger.write(key, path, "failed", str(error))
        return None
    plan.ledger.write(key, path, "finished")
    return Run.open(path)


def finish(plan: Plan, options: argparse.Namespace) -> None:
    """The report of the runs over seeds, with how the rates were chosen."""
    from ftrun.commands.report import ENDINGS, rows_of, write
    from ftrun.reports.page import Section

    runs = [path for path in plan.runs if is_run(path)]
    if not runs:
        raise UserError(f"no run of {plan.directory} came to its end: {'; '.join(plan.failed)}")
    form = options.format or ENDINGS.get(Path(options.output or "").suffix, "table")
    extra = [Section("Learning rates", lines=plan.chosen)] if plan.chosen else []
    if plan.failed:
        extra.append(Section("Failed", lines=plan.failed))
    write(rows_of([str(path) for path in runs]), form, options.output, extra=extra)
    print(f"the same as a page with pictures: ftrun report {plan.directory}/runs --output compare.html")
