"""Names that tell runs of a report apart, so that only like is compared with like under one name.

A name begins with the strategy and those of its settings in which it differs from other runs of the strategy:
`lora rank=8`. Then comes what differs anywhere in the report, whatever the strategy: the network, the number
of training rows, the budget, a protection, any other setting: `lora rank=8, MiniLM, 400 rows`. The learning
rate is an exception: each strategy has its own, so it is only told among runs of one strategy.
"""

from __future__ import annotations

from typing import Any

from ftrun.reports.numbers import short, words
from ftrun.settings.read import FIXED

Row = dict[str, Any]
CHOICES = ("schedule", "compose", "protect", "source", "pretrain")  # nodes whose option has a name or kind
RATE = "train.lr"
MODEL, ROWS = "model.name", "task.subset"


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names, as train.lr; an option under its group's name: schedule=cosine."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        chosen = prefix.removesuffix(".") in CHOICES and name in ("name", "kind")
        whole = prefix.removesuffix(".") if chosen else prefix + name
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {whole: value}
    return found


def own_words(row: Row, rows: list[Row]) -> dict[str, Any]:
    """The settings of its strategy, and the rate, in which a run differs from others of the strategy."""
    alike = [other["settings"] for other in rows if other["strategy"] == row["strategy"]]
    mine = row["settings"]
    names = [name for name in mine if _of_strategy(name) or name == RATE]
    return _last_parts(
        {name: mine[name] for name in names if any(each.get(name) != mine[name] for each in alike)}
    )


def shared_words(row: Row, rows: list[Row]) -> list[str]:
    """What differs among the rows beside strategies, networks and numbers of rows, as one would type it."""
    skipped = (MODEL, ROWS, RATE, "strategy", "task.name")
    differing = {
        name: value
        for name, value in row["settings"].items()
        if not _of_strategy(name) and name not in skipped and _varies(name, _with_option(name, row, rows))
    }
    kept = {name: value for name, value in differing.items() if not (name in CHOICES and value == "none")}
    return [words({name: value}) for name, value in _last_parts(kept).items()]


def name_of(row: Row, rows: list[Row], network: bool = True, count: bool = True) -> str:
    """`lora rank=8, MiniLM, 400 rows`; without network or number of rows where these are said elsewhere."""
    parts = [_model(row, rows)] if network else []
    parts += [*([_count(row, rows)] if count else []), *shared_words(row, rows)]
    return ", ".join([f"{row['strategy']} {words(own_words(row, rows))}".rstrip(), *filter(None, parts)])


def _of_strategy(name: str) -> bool:
    return name.split(".")[0] not in FIXED


def _varies(name: str, rows: list[Row]) -> bool:
    """Whether rows that have a setting differ in it; one that other rows lack, as a strategy's, does not."""
    known = [row["settings"] for row in rows if name in row["settings"] or name in CHOICES]
    return len({repr(settings.get(name, "none")) for settings in known}) > 1


def _with_option(name: str, row: Row, rows: list[Row]) -> list[Row]:
    """The rows whose option of a node a setting belongs to; all, for a setting that all options have."""
    group, dot, _ = name.partition(".")
    if not dot or group not in CHOICES:
        return rows
    return [other for other in rows if other["settings"].get(group) == row["settings"].get(group)]


def _model(row: Row, rows: list[Row]) -> str:
    """The network's short name, or its whole one where two are alike; "" where all agree or it has none."""
    models = {each["settings"][MODEL] for each in rows if MODEL in each["settings"]}
    mine = row["settings"].get(MODEL)
    if mine is None or len(models) < 2:
        return ""
    return short(mine) if len({short(each) for each in models}) == len(models) else str(mine)


def _count(row: Row, rows: list[Row]) -> str:
    """The number of training rows where the rows differ in it; "" where all agree or it is not known."""
    counts = {each.get("train_rows") for each in rows} - {None}
    if len(counts) > 1 and row.get("train_rows") is not None:
        return f"{row['train_rows']:,} rows"
    if _varies(ROWS, rows):
        return words({"subset": row["settings"].get(ROWS)})
    return ""


def _last_parts(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings by the last part of their names where that is unique: rank, epochs."""
    last = [name.rsplit(".", 1)[-1] for name in settings]
    return {
        end if last.count(end) == 1 else name: value
        for end, (name, value) in zip(last, settings.items(), strict=True)
    }
