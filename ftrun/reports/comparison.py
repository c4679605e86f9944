"""Rows of a report: how runs differ, their means over seeds, and the columns that show both."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from os.path import abspath, commonpath, dirname, relpath, sep
from typing import Any

from ftrun.data.splits import SPLIT_SEED
from ftrun.errors import counted
from ftrun.reports.diagnosing.forgetting import marked
from ftrun.reports.naming import Names, flat
from ftrun.reports.numbers import count, duration, score, share, size, words

Row = dict[str, Any]
# what makes it no other experiment
APART = ("seed", "device", "tracker", "baselines", "task.fold", "task.split_seed", "task.slices")
HEADING = ("task", "model", "seed", "metric", "state")  # above the table where all runs agree on it


@dataclass(frozen=True)
class Column:
    """A column of the table: its key in a row, its title, and its text for a reader."""

    key: str
    title: str
    text: Callable[[Row], str]
    right: bool = False


def strategy_words(row: Row) -> str:
    """The strategy and those of its settings in which runs of it differ: lora rank=4."""
    return f"{row['strategy']} {words(row['own'])}".rstrip()


def plain(key: str) -> Callable[[Row], str]:
    """The value as it is; empty where it is missing."""
    return lambda row: "" if row[key] is None else str(row[key])


def _score(row: Row, split: str) -> str:
    return score(row[f"{split}_score"], row["metric"], row[f"{split}_sd"])


def _forgetting(row: Row) -> str:
    found = score(row["forgetting"], row["forgetting_metric"], row.get("forgetting_sd"))
    return marked(found, row)


COLUMNS = (
    Column("run", "run", plain("label")),
    Column("task", "task", plain("task")),
    Column("model", "model", plain("model")),
    Column("strategy", "strategy", plain("way")),
    Column("seed", "seed", plain("seed"), right=True),
    Column("seeds", "seeds", plain("seeds"), right=True),
    Column("fold", "fold", plain("fold"), right=True),
    Column("split_seed", "split", plain("split_seed"), right=True),
    Column("trained_parameters", "trained", lambda row: count(row["trained_parameters"]), right=True),
    Column("trained_share", "share", lambda row: share(row["trained_share"]), right=True),
    Column("metric", "metric", plain("metric")),
    Column("test_score", "test", lambda row: _score(row, "test"), right=True),
    Column("eval_score", "eval", lambda row: _score(row, "eval"), right=True),
    Column("forgetting", "forgetting", _forgetting, right=True),
    Column("step", "step", plain("step"), right=True),
    Column("seconds", "time", lambda row: duration(row["seconds"]), right=True),
    Column("tokens_per_second", "tokens/s", lambda row: count(row["tokens_per_second"]), right=True),
    Column("images_per_second", "images/s", lambda row: count(row["images_per_second"]), right=True),
    Column("memory_bytes", "memory", lambda row: size(row["memory_bytes"]), right=True),
    Column("state", "state", plain("state")),
)


def damaged(run: str, why: str) -> Row:
    """The row of a run that cannot be read."""
    nothing = dict.fromkeys([*(column.key for column in COLUMNS), "forgetting_metric"])
    known = {"run": run, "strategy": "", "state": "damaged", "failure": why, "config": {}, "sources": []}
    return nothing | known


def side_by_side(rows: list[Row]) -> list[Row]:
    """The rows with a short label each, and a name that tells it from those of the same task."""
    paths = [abspath(row["run"]) for row in rows]
    folder = commonpath([dirname(path) for path in paths])
    like: dict[str, list[Row]] = {}
    for row, path in zip(rows, paths, strict=True):
        # `auto` is one setting, whatever each seed found for it
        row["settings"] = _settings(row["asked"] if "asked" in row else row["config"])
        task = row["config"].get("task") or {}
        row |= {"fold": task.get("fold"), "split_seed": task.get("split_seed", SPLIT_SEED) if task else None}
        row["label"] = relpath(path, folder) if len(rows) > 1 else row["run"]
        row["folder"] = _near(folder) if len(rows) > 1 else ""
        row |= {"test_sd": None, "eval_sd": None, "seeds": None, "own": {}, "way": row["strategy"]}
        if row["state"] != "damaged":
            like.setdefault(row["task"], []).append(row)
    if len({row["split_seed"] for row in rows} - {None}) < 2:  # nothing to tell apart
        for row in rows:
            row["split_seed"] = None
    for each in like.values():
        names = Names(each)
        for row in each:
            row |= {"own": names.own(row), "way": names.of(row, network=False)}
    for row, brief in zip(rows, _brief([row["label"] for row in rows]), strict=True):
        row["brief"] = brief
    return rows


def _settings(asked: Row) -> Row:
    """What makes it this experiment; of a sequence not `source`, as each task's is the one before it."""
    apart = (*APART, "source") if asked.get("sequence") else APART
    kept = {name: value for name, value in asked.items() if name not in apart}
    return {name: value for name, value in flat(kept).items() if name not in apart}


def _near(folder: str) -> str:
    relative = relpath(folder)
    return folder if relative.startswith("..") else relative


def _brief(labels: list[str]) -> list[str]:
    """Labels whose first part is shortened as far as it stays unique: 16-30-12…/3-lora."""
    firsts = {label.split(sep, 1)[0] for label in labels}
    longest = max(map(len, firsts))
    length = next(n for n in range(8, longest + 9) if len({first[:n] for first in firsts}) == len(firsts))
    parts = [label.split(sep, 1) for label in labels]
    return [sep.join([f"{p[0][:length]}…" if len(p[0]) > length + 1 else p[0], *p[1:]]) for p in parts]


def means(rows: list[Row]) -> list[Row]:
    """One row per experiment with at least two finished runs; one that ran twice counts once."""
    groups: dict[str, dict[tuple[int, int | None, int | None], Row]] = {}
    for row in rows:
        if row["state"] == "finished":
            own = groups.setdefault(repr(sorted(row["settings"].items())), {})
            own[row["seed"], row["fold"], row["split_seed"]] = row
    return [_mean(list(group.values())) for group in groups.values() if len(group) > 1]


def _mean(rows: list[Row]) -> Row:
    apart = dict.fromkeys(("seed", "fold", "split_seed"))
    mean = rows[0] | apart | {"seeds": len({row["seed"] for row in rows})}
    numbers = "seconds", "tokens_per_second", "images_per_second", "memory_bytes"
    for key in ("test_score", "eval_score", "forgetting", *numbers):
        values = [row[key] for row in rows if row[key] is not None]
        mean[key] = statistics.fmean(values) if len(values) == len(rows) else None
        if key not in numbers:
            mean[f"{key.removesuffix('_score')}_sd"] = (
                statistics.stdev(values) if len(values) == len(rows) else None
            )
    return mean


def heading(rows: list[Row]) -> tuple[str, list[str]]:
    """What all runs have in common, as a line, and the columns that it makes redundant."""
    known = [row for row in rows if row["state"] != "damaged"] or rows
    agreed = [key for key in HEADING if len({row[key] for row in known}) == 1 and known[0][key] is not None]
    if len(rows) == 1 or {row["state"] for row in rows} != {"finished"}:
        agreed = [key for key in agreed if key != "state"]
    number = counted(len(rows), "run")
    parts = [f"{number} in {rows[0]['folder']}" if rows[0]["folder"] else number]
    finished = sum(row["state"] == "finished" for row in rows)
    parts += [f"{finished:,} finished"] if finished < len(rows) > 1 else []
    parts += [f"{key} {known[0][key]}" for key in agreed if key != "state"]
    return " · ".join(parts), agreed


def columns_for(rows: list[Row], without: list[str]) -> list[Column]:
    """The columns that are not empty for all of these rows."""
    kept = [column for column in COLUMNS if column.key not in without]
    return [column for column in kept if any(column.text(row) for row in rows)]


def as_csv(rows: list[Row]) -> str:
    """Every run with raw numbers; settings that differ between any runs have columns of their own."""
    configs = [row["settings"] for row in rows]
    names = list(dict.fromkeys(name for config in configs for name in config))
    varied = [name for name in names if len({repr(config.get(name)) for config in configs}) > 1]
    beside = "config asked settings own way label brief folder seeds test_sd eval_sd forgetting_sd sources"
    hidden = [*beside.split(), "edited"]
    if all(row["split_seed"] is None for row in rows):
        hidden.append("split_seed")
    facts = list(dict.fromkeys(key for row in rows for key in row if key not in hidden))
    extra = [name for name in varied if name not in facts]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(facts + extra)
    for row in rows:
        writer.writerow([row.get(key) for key in facts] + [row["settings"].get(name) for name in extra])
    return text.getvalue()


def as_markdown(rows: list[Row]) -> str:
    """A table of runs, and a table of means where there are several seeds."""
    line, agreed = heading(rows)
    parts = [line, "", *_markdown(rows, agreed)]
    if averaged := means(rows):
        table = _markdown(averaged, [*agreed, "run", "state", "step"])
        parts += ["", "Mean ± standard deviation over seeds", "", *table]
    return "\n".join(parts) + "\n"


def _markdown(rows: list[Row], without: list[str]) -> list[str]:
    columns = columns_for(rows, without)
    lines = [[column.title for column in columns], ["---:" if column.right else "---" for column in columns]]
    lines += [[column.text(row).replace("|", "\\|") for column in columns] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
