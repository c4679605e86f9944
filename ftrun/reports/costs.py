"""What the time of runs was spent on: wall and CPU seconds of every phase, by way of training."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError, UserError, counted
from ftrun.reports.comparison import heading
from ftrun.reports.numbers import duration, share
from ftrun.reports.pages.page import Section
from ftrun.reports.pages.page import as_markdown as page
from ftrun.reports.table import form_of, put, rows_of
from ftrun.runs.clock import PHASES, Spent, spent_by
from ftrun.runs.run import Run

if TYPE_CHECKING:
    from ftrun.reports.comparison import Row

KINDS = ("Wall", "CPU")


def write(paths: list[str], form: str | None = None, output: str | None = None) -> None:
    """The costs of all runs below these paths, as `reports.table.write` writes the report.

    Raises ConfigError where no run has phases in its timing.jsonl.
    """
    rows = rows_of(paths)
    known = [(row, spent) for row in rows if (spent := _spent(row))]
    if not known:
        raise ConfigError(
            f"report: --costs: no run in {', '.join(paths)} has the times of its phases in timing.jsonl;"
            " runs of earlier versions do not"
        )
    form = form_of(form, output)
    if form == "csv":
        put(as_csv(known), output)
        return
    sections = sections_of(known, len(rows) - len(known))
    if form == "html":
        from ftrun.reports.pages.webpage import as_html

        put(as_html("Costs by phase", heading(rows)[0], sections), output)
    elif form == "table" and output is None:
        from ftrun.reports.pages.console import console
        from ftrun.reports.pages.terminal import on_terminal

        on_terminal(console(), sections)
    else:
        put(f"# Costs by phase: {heading(rows)[0]}\n{page(sections)}", output)


def _spent(row: Row) -> Spent:
    """The times of a run's phases; nothing of one that is damaged."""
    try:
        return {} if row["state"] == "damaged" else spent_by(Run(row["run"]))
    except UserError:
        return {}


def sections_of(known: list[tuple[Row, Spent]], without: int) -> list[Section]:
    """A table of wall and one of CPU seconds, whose last row has the shares of all; and who is in neither."""
    ways: dict[str, list[Spent]] = {}
    for name, (_, spent) in zip(_named([row for row, _ in known]), known, strict=True):
        ways.setdefault(name, []).append(spent)
    sections = [_table(ways, kind) for kind in range(len(KINDS))]
    if without:
        line = f"{counted(without, 'run')} of an earlier version, or damaged, without the times of phases"
        sections.append(Section("Left out", lines=[line]))
    return sections


def _named(rows: list[Row]) -> list[str]:
    """The way of each run, with its task and network where these differ."""
    tasks, models = ({row[key] for row in rows} for key in ("task", "model"))
    return [
        (f"{row['task']}: " if len(tasks) > 1 else "")
        + row["way"]
        + (f", {row['model']}" if len(models) > 1 else "")
        for row in rows
    ]


def _table(ways: dict[str, list[Spent]], kind: int) -> Section:
    """One row for each way, the mean of its runs."""
    several = any(len(runs) > 1 for runs in ways.values())
    sums = {way: _sums(runs, kind) for way, runs in ways.items()}
    used = [phase for phase in PHASES if any(phase in found for found in sums.values())]
    whole = sum(sum(found.values()) for found in sums.values())
    rows = []
    for way, found in sums.items():
        count = len(ways[way])
        times = [*(found.get(phase, 0.0) for phase in used), sum(found.values())]
        rows.append([way, *([str(count)] if several else []), *(duration(time / count) for time in times)])
    shares = [sum(found.get(phase, 0.0) for found in sums.values()) / (whole or 1) for phase in used]
    total = str(sum(map(len, ways.values())))
    rows.append(["share of all", *([total] if several else []), *map(share, map(_rounded, shares)), "100 %"])
    columns = [("strategy", False), *([("runs", True)] if several else [])]
    title = f"{KINDS[kind]} time by phase{', mean of the runs' if several else ''}"
    note = f"{duration(whole)} in all"
    return Section(title, [*columns, *((phase, True) for phase in used), ("total", True)], rows, note=note)


def _rounded(value: float) -> float:
    return round(value, 3)


def _sums(runs: list[Spent], kind: int) -> dict[str, float]:
    return {
        phase: sum(spent[phase][kind] for spent in runs if phase in spent)
        for phase in PHASES
        if any(phase in spent for spent in runs)
    }


def as_csv(known: list[tuple[Row, Spent]]) -> str:
    """A line for every run, with the wall and CPU seconds of every phase as raw numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    units = ("seconds", "cpu_seconds")
    facts = ("run", "task", "model", "strategy", "seed")
    writer.writerow([*facts, *(f"{phase}_{unit}" for unit in units for phase in PHASES)])
    for row, spent in known:
        times = [round(spent[at][kind], 4) if at in spent else None for kind in (0, 1) for at in PHASES]
        writer.writerow([*(row[fact] for fact in facts), *times])
    return text.getvalue()
