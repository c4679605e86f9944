"""What a search is asked to draw from: the ranges of each strategy's YAML and those of the command line."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.experiments.study.pruning import STOPS
from ftrun.settings.suggest import meant

if TYPE_CHECKING:
    from ftrun.experiments.study.values import Range


CONCURRENT = 4  # trials at the same time


def searching(parser: argparse.ArgumentParser) -> None:
    """The options of a search."""
    add = parser.add_argument
    add(
        "--search",
        type=int,
        default=0,
        metavar="N",
        help="search each strategy's settings with N trials, its default first, instead of its learning rate"
        " alone; N counts different settings, those that fail or are stopped too. The ranges are those of its"
        " YAML; key=a,b or 'key=interval(a,b)' gives another one, key=value fixes a setting. Extra: search",
    )
    stops = "; ".join(f"{name}: {what}" for name, what in STOPS.items())
    add(
        "--concurrent",
        type=int,
        metavar="K",
        help="trials of a strategy that may be made at the same time: each is drawn without knowing how the"
        f" K - 1 before it ended, whoever makes them; default: {CONCURRENT}",
    )
    add("--prune", choices=[*STOPS], help=f"which trials are stopped on the way ({stops}); default: median")


def refuse_search(command: str, options: argparse.Namespace, rate: str | None = None) -> None:
    """ConfigError for options of a search that do not go together; the pruner that is meant."""
    if options.search < 0 or options.search == 1:
        raise ConfigError(
            f"{command}: --search is a number of trials from 2, or 0 for none, not {options.search}"
        )
    if options.prune and not options.search:
        raise ConfigError(f"{command}: --prune {options.prune} stops trials of a search; add --search N")
    if options.search and rate:
        raise ConfigError(
            f"{command}: --search searches the learning rate too; leave out --lr {rate}, or fix it, train.lr="
        )
    options.prune = options.prune or "median"
    if options.concurrent is not None and not options.search:
        raise ConfigError(f"{command}: --concurrent {options.concurrent} is of a search; add --search N")
    options.concurrent = CONCURRENT if options.concurrent is None else options.concurrent
    if options.concurrent < 1:
        raise ConfigError(f"{command}: --concurrent must be at least 1, not {options.concurrent}")


@dataclass
class Ranges:
    """The ranges of each strategy, and how many trials are drawn from them; none where there is no search."""

    count: int  # of trials for each strategy that has ranges
    pruner: str
    concurrent: int  # trials at the same time, at most
    typed: dict[str, Range]
    fixed: set[str]  # settings that have one value on the command line
    of: dict[str, dict[str, Range]] = field(default_factory=dict)  # by strategy

    @classmethod
    def taken_out(
        cls, words: list[str], count: int, pruner: str, concurrent: int = CONCURRENT
    ) -> tuple[Ranges, list[str]]:
        """The ranges in a command line, and its other words."""
        if not count:
            return cls(0, pruner, concurrent, {}, set()), words
        from ftrun.experiments.study.ranges import range_of
        from ftrun.experiments.study.trials import installed

        installed()

        found = {word: None if word.startswith("strategy=") else range_of(word) for word in words}
        typed = {word.partition("=")[0]: each for word, each in found.items() if each is not None}
        rest = [word for word in words if found[word] is None]
        return cls(count, pruner, concurrent, typed, {word.partition("=")[0] for word in rest}), rest

    def look_up(self, name: str, raw: dict[str, Any], words: list[str]) -> None:
        """Find and check what is searched of the strategy that these words compose."""
        if not self.count:
            return
        from ftrun.experiments.study.ranges import check, ranges_of
        from ftrun.settings.checks import found_in

        own = {key: each for key, each in ranges_of(words).items() if key not in self.fixed}
        own |= {key: each for key, each in self.typed.items() if found_in(raw, key)[0]}
        check(name, raw, own)
        self.of[name] = own

    def refuse_unused(self) -> None:
        """ConfigError for a range of the command line that no strategy has a setting for."""
        for key, each in self.typed.items():
            if not any(key in own for own in self.of.values()):
                names = ", ".join(self.of)
                raise ConfigError(f"{key}={each.text}: none of {names} has a setting '{key}'{meant(key)}")

    def trials(self, name: str) -> int:
        """How many trials a strategy gets that is not solved for."""
        return self.count if self.of.get(name) else 0

    def told(self, names: list[str], solved: set[str]) -> list[str]:
        """How these strategies were searched."""
        if not self.count:
            return []
        searched = [name for name in names if self.trials(name) and name not in solved]
        stopped = "" if self.pruner == "none" else f"; stopped on the way: {STOPS[self.pruner]}"
        found = [
            f"{', '.join(searched)}: {self.count} trials each, the default first, drawn by Optuna's TPE and"
            f" compared on validation alone{stopped}"
        ]
        none = [name for name in names if name not in searched]
        return [
            *(found if searched else []),
            *(
                f"{name}: no trials, it is solved for, without rate and steps"
                if name in solved
                else f"{name}: no trials, all that could be searched was set"
                for name in none
            ),
        ]


def alone(ranges: Ranges, directory: Path) -> AbstractContextManager[None]:
    """The search of a study's directory is this process's; ConfigError where another one searches there."""
    if not ranges.count:
        return nullcontext()
    from ftrun.experiments.study.trials import claimed

    return claimed(directory)
