"""Say what runs would come to before any of them: rows, steps, time, and what difference they can show."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser
from ftrun.commands._studies.memory import BARE, bytes_of, tell_memory
from ftrun.commands._studies.ranges import Ranges, refuse_search, searching
from ftrun.commands._studies.settings import POWERS, SEEDS, STRATEGIES, composed, keys_of, refuse_no_seeds
from ftrun.errors import ConfigError, counted

if TYPE_CHECKING:
    from ftrun.experiments.planning import Outlook

UNTIMED = "not timed: each run trains its source first"
NESTED = "[{('\""  # a value with one of these is one value, whatever its commas


def main(arguments: list[str]) -> int:
    """Print the plan; a few steps are timed and forgotten, and only the cache of token ids is written."""
    from ftrun.experiments.making import looked

    begin = time.process_time(), time.perf_counter()
    options = parse(arguments)
    words, folds = folded(options.settings)
    ranges, words = Ranges.taken_out(words, options.search, options.prune)
    ways = ways_of(words, options.strategies)
    raws = {name: composed(own) for name, own in ways.items()}
    for name, own in ways.items():
        ranges.look_up(name, raws[name], own)
    ranges.refuse_unused()
    for raw in raws.values():
        if raw["pretrain"]["name"] != "none":
            raise ConfigError(
                f"plan: pretrain={raw['pretrain']['name']} trains a network of its own first; plan the task"
                " on a network that is there, model.name=CHECKPOINT"
            )
        looked(raw)
    from ftrun.experiments.planning import outlook, without_weights

    bare = {name: without_weights(raw) for name, raw in raws.items()}
    if all(bare.values()):
        rows = [(name, settings, None) for name, settings in bare.items() if settings is not None]
        tell_memory(rows, options.memory)
        return print(f"  {BARE.format(rows[0][1].model.name)}") or 0
    ready = begin[0] + time.perf_counter() - begin[1]  # what the imports take in any process
    found = outlook(raws)
    if not found.ways:
        raise ConfigError(f"plan: {found.refused[0]}")
    for title, part in PARTS.items():
        print(f"\n{title}" if title != "data" else title)
        for line in part(found, options.seeds, folds, ranges):
            print(f"  {line}", flush=True)
    print()
    large = tell_memory([(way.name, way.settings, way.data.longest) for way in found.ways], options.memory)
    print("\ncost", flush=True)
    for line in cost_lines(found, options.seeds * folds, ready, ranges, large):
        print(f"  {line}")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="ftrun plan", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add(
        "settings",
        nargs="*",
        metavar="key=value",
        help="settings of the runs; of key=a,b each value is a way of its own",
    )
    add("--strategies", help=f"names with commas; default: {STRATEGIES}, or strategy= where it is set")
    add(
        "--memory",
        type=bytes_of,
        metavar="SIZE",
        help="what a process can have, such as 24GB; default: the memory of the GPU, or of this machine",
    )
    add("--seeds", type=int, default=SEEDS, help="number of runs of each way; default: %(default)s")
    searching(parser)
    options = parser.parse_intermixed_args(arguments)
    refuse_search("plan", options)
    refuse_no_seeds("plan", options.seeds)
    for key, word in zip(keys_of("plan", options.settings), options.settings, strict=True):
        if key in ("seed", "sequence"):
            raise ConfigError(f"plan: {key}= cannot be set here; use --seeds, with one task")
        if key == "task.split_seed" and "," in word:
            raise ConfigError(
                f"plan: {word} is no choice of ways, it repeats their runs on other splits; plan one of them,"
                f" {word.split(',')[0]}"
            )
        if key == "strategy" and options.strategies is not None:
            raise ConfigError(f"plan: {word} and --strategies name the ways twice; use one of them")
    return options


def folded(words: list[str]) -> tuple[list[str], int]:
    """The words of one run, the first of the folds, and how many folds there are."""
    from ftrun.experiments.overrides import fold_words

    folds = fold_words(words)
    return (words + folds[:1], len(folds)) if folds else (words, 1)


def ways_of(words: list[str], strategies: str | None) -> dict[str, list[str]]:
    """The words of each way by its name: every combination of values with commas, as in a sweep."""
    if not any(word.startswith("strategy=") for word in words):
        words = [*words, f"strategy={strategies or STRATEGIES}"]
    choices = []
    for word in words:
        key, _, value = word.partition("=")
        several = not any(mark in value for mark in NESTED) and "," in value
        choices.append([f"{key}={each}" for each in value.split(",")] if several else [word])
    found = {}
    for chosen in itertools.product(*choices):
        varied = [word for word, all_of in zip(chosen, choices, strict=True) if len(all_of) > 1]
        own = varied or [word for word in chosen if word.startswith("strategy=")]
        found[" ".join(word.removeprefix("strategy=") for word in own)] = list(chosen)
    return found


def data_lines(found: Outlook, seeds: int, folds: int, ranges: Ranges) -> list[str]:
    """What a run says of its rows, and the rows of each split, once for all ways that have the same."""
    lines = []
    for data in {id(way.data): way.data for way in found.ways}.values():
        counts = ", ".join(f"{split} {count:,}" for split, count in data.rows.items())
        lines += [*data.lines, f"rows: {counts}"]
    return lines


def way_lines(found: Outlook, seeds: int, folds: int, ranges: Ranges) -> list[str]:
    """What the settings of each way come to."""
    lines = []
    for way in found.ways:
        train = way.settings.train
        given = f"{counted(way.steps, 'step')} in batches of {train.batch_size}, rate {train.lr:g}"
        limited = train.max_steps is not None and not way.settings.strategy.solved
        steps = [f"{counted(way.steps, 'step')}, train.max_steps"] if limited else []
        lines.append(f"{way.name}: {'; '.join([*way.why, *steps]) if way.why else given}")
    return [*lines, *found.refused]


def run_lines(found: Outlook, seeds: int, folds: int, ranges: Ranges) -> list[str]:
    """How many runs that would be, and how many optimizer steps at most."""
    ways = len(found.ways)
    runs, steps = ways * seeds * folds, sum(way.steps for way in found.ways) * seeds * folds
    product = f"{counted(ways, 'way')} × {counted(seeds, 'seed')}{f' × {folds} folds' if folds > 1 else ''}"
    lines = [f"{product} = {counted(runs, 'run')}, {steps:,} optimizer steps at most"]
    sources = [way.settings.source for way in found.ways]
    before = {source.node["name"] for source in sources if source is not None and source.kind == "task"}
    lines += [f"each run trains its source first: {name}" for name in sorted(before)]
    added = trials(found, ranges)
    tuned = sum(count > 0 for count in added.values())
    each = "way" if tuned == ways else "way that has one"
    if ranges.count and tuned:
        lines.append(
            f"ftrun compare --search {ranges.count} adds {sum(added.values())} runs, {ranges.count} trials of"
            f" each {each.replace('one', 'ranges')}, fewer where these hold no more"
        )
    elif tuned:
        lines.append(
            f"ftrun compare adds {len(POWERS) * tuned} runs or more, {len(POWERS)} of each {each}, that"
            " choose its learning rate (--lr default: none)"
        )
    return lines


def trials(found: Outlook, ranges: Ranges) -> dict[str, int]:
    """The runs that compare makes before those it compares, by way; of ways that are no strategies none."""
    if any("=" in way.name for way in found.ways) and not ranges.count:
        return {}
    names = {way.name: way.settings.strategy.solved for way in found.ways}
    each = {name: ranges.trials(name) if ranges.count else len(POWERS) for name in names}
    return {name: 0 if names[name] else count for name, count in each.items()}


def cost_lines(found: Outlook, runs: int, ready: float, ranges: Ranges, large: Collection[str]) -> list[str]:
    """The time, memory and disk of a run of each way, and of all; `ready` are the seconds of imports.

    Those that are too `large` for the memory are not timed.
    """
    from ftrun.experiments.study.costing import costs_of
    from ftrun.experiments.study.summary import line_of, total_of

    ways = [way for way in found.ways if way.name not in large]
    costs = costs_of(ways)
    lines = [
        f"{way.name}: {line_of(cost, way, ready) if (cost := costs[way.name]) else UNTIMED}" for way in ways
    ]
    lines += [f"{name}: not timed: it does not fit" for name in sorted(large)]
    known = {name: cost for name, cost in costs.items() if cost is not None}
    if known and len(known) == len(found.ways):
        once = ready + max(way.data.seconds for way in found.ways)
        lines.append(
            f"{counted(len(known) * runs, 'run')}: {total_of(known, dict.fromkeys(known, runs), once)}"
        )
        if added := trials(found, ranges):
            searched = {name: runs + added[name] for name in known}
            whole = total_of(known, searched, once, {name: added[name] for name in known})
            rates = f"the search for learning rates of ftrun compare: {whole}, or more"
            search = f"ftrun compare --search {ranges.count}: {whole}, less where trials are stopped"
            lines.append(f"with {search if ranges.count else rates}")
    return [*lines, "timed on this machine as busy as it is now; a run that patience ends early takes less"]


def power_lines(found: Outlook, seeds: int, folds: int, ranges: Ranges) -> list[str]:
    """The smallest difference that these runs can show, once for all ways with as many test rows."""
    from ftrun.experiments.planning import pool_of, tested
    from ftrun.reports.groups import PAIRS
    from ftrun.reports.rare import hidden_words
    from ftrun.reports.verdicts.planning import power_lines

    ways = len(found.ways)
    pairs = ways * (ways - 1) // 2
    tests = max(1, pairs if pairs <= PAIRS else ways - 1)
    lines: dict[str, None] = {}
    for way in found.ways:
        rows, error, labels = tested(way, folds), way.data.error_rate, way.data.labels
        pool = pool_of(way) if folds == 1 else None
        lines |= dict.fromkeys(power_lines(way.metric, rows, seeds, ways, tests, error, pool, labels))
        if labels and (said := hidden_words(way.metric, labels, way.settings.raw["task"])):
            lines[said] = None
    return list(lines)


PARTS = {"data": data_lines, "training": way_lines, "runs": run_lines, "power": power_lines}
