"""Names that tell runs of a report apart, so that only like is compared with like under one name.

A name begins with the strategy and those of its settings in which it differs from other runs of it: `lora
rank=8`. Then comes what differs anywhere in the report, whatever the strategy: the network, the number of
training rows, the budget, a protection, any other setting: `lora rank=8, MiniLM, 400 rows`. Left out is what
the strategy itself brings along, and the learning rate, of which each strategy has its own: it is told among
the runs of one strategy.
"""

from __future__ import annotations

import sys
from functools import cache, cached_property
from typing import Any

from ftrun.errors import counted
from ftrun.reports.numbers import short, words
from ftrun.settings.read import FIXED
from ftrun.settings.upgrade import preset

Row = dict[str, Any]
CHOICES = ("schedule", "compose", "protect", "source", "pretrain")  # nodes whose option has a name or kind
RATE, MODEL, ROWS = "train.lr", "model.name", "task.subset"
TASKS = ("sequence", "task.tasks", "task.scenario")  # the name of the task says which, the scenario how
ELSEWHERE = (RATE, MODEL, ROWS, *TASKS, "strategy", "task.name")  # said otherwise, or not at all


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names, as train.lr; an option under its group's name: schedule=cosine."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        chosen = prefix.removesuffix(".") in CHOICES and name in ("name", "kind")
        whole = sys.intern(prefix.removesuffix(".") if chosen else prefix + name)  # runs have the same names
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {whole: value}
    return found


class Names:
    """The names of some rows among each other."""

    def __init__(self, rows: list[Row]) -> None:
        counts: dict[Any, set[int]] = {}  # of a fold or split: others may have a row more or less
        for row in rows:
            if row.get("train_rows") is not None:
                counts.setdefault((row.get("fold"), row.get("split_seed")), set()).add(row["train_rows"])
        self.several = any(len(own) > 1 for own in counts.values())
        self.subsets = {repr(row["settings"].get(ROWS)) for row in rows}
        self.models = {row["settings"][MODEL] for row in rows if MODEL in row["settings"]}
        own: dict[str, list[dict[str, Any]]] = {}
        self._values: dict[tuple[str, Any], set[str]] = {}
        for row in rows:
            settings = row["settings"] | {name: row["settings"].get(name, "none") for name in CHOICES}
            own.setdefault(row["strategy"], []).append(
                {name: repr(value) for name, value in settings.items() if _is_own(name)}
            )
            for name, value in _shared(row, settings).items():
                self._values.setdefault((name, _option(name, settings)), set()).add(repr(value))
        self._own = {strategy: _differing(like) for strategy, like in own.items()}

    def own(self, row: Row) -> dict[str, Any]:
        """The settings of its strategy, and the rate, in which a row differs from others of the strategy."""
        differing = self._own[row["strategy"]]
        return _last_parts({name: value for name, value in row["settings"].items() if name in differing})

    def shared(self, row: Row) -> list[str]:
        """What differs beside strategies, networks and numbers of rows, as one would type it."""
        settings = row["settings"]
        kept = {
            name: value
            for name, value in _shared(row, settings).items()
            if len(self._values.get((name, _option(name, settings)), ())) > 1
            and not (name in CHOICES and value == "none")
        }
        return [words({name: value}) for name, value in _last_parts(kept).items()]

    def of(self, row: Row, network: bool = True, count: bool = True) -> str:
        """`lora rank=8, MiniLM, 400 rows`; without network or number of rows, where said elsewhere."""
        parts = [self._model(row) if network else "", self._count(row) if count else "", *self.shared(row)]
        return ", ".join([f"{row['strategy']} {words(self.own(row))}".rstrip(), *filter(None, parts)])

    def _model(self, row: Row) -> str:
        """The network's short name, or its whole one where two are alike; empty where all agree."""
        mine = row["settings"].get(MODEL)
        if mine is None or len(self.models) < 2:
            return ""
        return short(mine) if self._unlike else str(mine)

    @cached_property
    def _unlike(self) -> bool:
        """Whether the short names of all networks differ."""
        return len({short(each) for each in self.models}) == len(self.models)

    def _count(self, row: Row) -> str:
        """The number of training rows, or the setting where it is not known; empty where all agree."""
        if self.several and row.get("train_rows") is not None:
            return counted(row["train_rows"], "row")
        return words({"subset": row["settings"].get(ROWS)}) if len(self.subsets) > 1 else ""


def of_strategy(name: str) -> bool:
    """Whether a setting is a strategy's own: rank, alpha, …"""
    return name.split(".")[0] not in FIXED


def _is_own(name: str) -> bool:
    return name == RATE or of_strategy(name)


def _shared(row: Row, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that are no strategy's own, and that this row's strategy does not bring along."""
    implied = _implied(row["strategy"])
    return {
        name: value
        for name, value in settings.items()
        if not _is_own(name) and name not in ELSEWHERE and implied.get(name, ...) != value
    }


@cache
def _implied(strategy: str) -> dict[str, Any]:
    return flat(preset("strategy", strategy))


def _option(name: str, settings: dict[str, Any]) -> Any:
    """The option that a setting belongs to; runs with other options do not have it.

    How a checkpoint pools belongs to the checkpoint: config.yaml has what `auto` came to.
    """
    if name == "model.pooling":
        return settings.get(MODEL), settings.get("model.init")
    group, dot, _ = name.partition(".")
    return settings.get(group) if dot and group in CHOICES else None


def _differing(like: list[dict[str, str]]) -> set[str]:
    """The names in which these settings are not all equal."""
    names = {name for settings in like for name in settings}
    return {name for name in names if any(each.get(name) != like[0].get(name) for each in like)}


def _last_parts(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings by the last part of their names where that is unique: rank, epochs."""
    last = [name.rsplit(".", 1)[-1] for name in settings]
    return {
        end if last.count(end) == 1 else name: value
        for end, (name, value) in zip(last, settings.items(), strict=True)
    }
