"""The page of a comparison: tables, sentences and plots, as markdown, as HTML or on the terminal."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports import slices
from ftrun.reports.labelling import label_lines
from ftrun.reports.mistakes.labels_in_doubt import doubt_lines
from ftrun.reports.numbers import count, duration, score, size
from ftrun.reports.verdict import verdict
from ftrun.reports.verdicts import elbow, interval, p_value_source, sentence, standard_error

if TYPE_CHECKING:
    from rich.console import Console

    from ftrun.reports.comparison import Row
    from ftrun.reports.study import Group, Study, Tried


@dataclass
class Plot:
    """A plot as PNG with its title."""

    name: str  # of its file, without .png
    title: str
    png: bytes


@dataclass
class Section:
    """A heading with a table, lines and plots below it."""

    title: str
    columns: list[tuple[str, bool]] = field(default_factory=list)  # title, whether right-aligned
    rows: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)


def sections_of(group: Group) -> list[Section]:
    """The sections on one group of comparable runs."""
    metric = group.metric
    rows = [_cells(study, metric) for study in group.studies]
    titles = [title for title, _ in COLUMNS]
    used = [place for place in range(len(titles)) if any(row[place] for row in rows)]
    table = Section(
        f"{group.task}: {metric} on {counted(group.items, 'test example')}, with 95 % confidence intervals",
        [COLUMNS[place] for place in used],
        [[row[place] for place in used] for row in rows],
        [f"{study.name}: standard error {standard_error(study, metric)}" for study in group.studies],
    )
    found = [Section("Verdict", lines=verdict(group)), table]
    if group.pairs:
        correction = ", Holm-corrected" if len(group.pairs) > 1 else ""
        title = f"Pairwise comparison ({counted(len(group.pairs), 'test')}{correction})"
        found.append(
            Section(title, lines=[*(sentence(pair, group) for pair in group.pairs), p_value_source(group)])
        )
    if cells := slices.section(group):
        found.append(Section("Slices", *cells))
    if ranked := elbow(group):
        found.append(Section("LoRA rank", lines=[ranked[2]]))
    if lines := label_lines(group):
        found.append(Section("Label efficiency", lines=lines))
    if lines := doubt_lines(group):
        found.append(Section("Labels in doubt", lines=lines))
    if lines := _untaught(group):
        found.append(Section("Runs that learned nothing", lines=lines))
    found.append(Section("Overfitting", lines=_overfitting(group)))
    return found


COLUMNS = [
    ("strategy", False), ("seeds", True), ("score", True), ("trained", True), ("time", True),
    ("CPU time", True), ("memory", True), ("on disk", True), ("forgetting", True), ("Pareto", False),
]  # fmt: skip


def _cells(study: Study, metric: str) -> list[str]:
    facts, row = study.facts, study.tried[0].row
    return [
        study.name,
        str(len(study.tried)),
        interval(study.score, metric),
        count(facts["trained_parameters"]),
        duration(facts["seconds"]),
        duration(facts["cpu_seconds"]),
        size(facts["peak_memory_bytes"]),
        size(facts["bytes"]),
        score(facts["forgetting"], row["forgetting_metric"]),
        "" if study.baseline else f"dominated by {study.dominated_by}" if study.dominated_by else "optimal",
    ]


def _untaught(group: Group) -> list[str]:
    """A line for each study with a run that learned nothing."""
    seen = [(study, [each for each in study.tried if each.diagnosis.untaught]) for study in group.ways]
    return [_diagnosis_line(study, found, found[0]) for study, found in seen if found]


def _diagnosis_line(study: Study, seen: list[Tried], clearest: Tried) -> str:
    often = f"{len(seen)} of {len(study.tried)} runs, here " if len(study.tried) > 1 else ""
    return f"{study.name} ({often}seed {clearest.row['seed']}) {clearest.diagnosis.text}"


def _overfitting(group: Group) -> list[str]:
    """A line for each study with signs: in how many of its runs, and the diagnosis of the clearest one."""
    lines, healthy = [], []
    for study in group.ways:
        if seen := [each for each in study.tried if each.diagnosis.signs]:
            worst = max(seen, key=lambda each: (len(each.diagnosis.signs), -each.row["seed"]))
            lines.append(_diagnosis_line(study, seen, worst))
        elif not all(each.diagnosis.untaught for each in study.tried):
            healthy.append(study.name)
    if healthy:
        lines.append(f"no sign of overfitting: {', '.join(healthy)}")
    return lines


def runs_section(rows: list[Row]) -> Section:
    """The table of all runs, with a line for each one that has no result."""
    from ftrun.reports.comparison import columns_for, heading

    columns = columns_for(rows, heading(rows)[1])
    lines = [f"{row['label']} failed: {row['failure']}" for row in rows if row["state"] == "failed"]
    lines += [
        f"{row['label']} {'is' if row['state'] == 'running' else 'was'} {row['state']}"
        for row in rows
        if row["state"] in ("interrupted", "running")
    ]
    lines += [f"damaged: {row['failure']}" for row in rows if row["state"] == "damaged"]
    cells = [[column.text(row) for column in columns] for row in rows]
    return Section("Runs", [(column.title, column.right) for column in columns], cells, lines)


def on_terminal(screen: Console, sections: list[Section]) -> None:
    """The sections as text in the terminal, long lines folded."""
    from rich import box
    from rich.padding import Padding
    from rich.table import Table

    for section in sections:
        if section.plots:
            continue
        screen.print(f"\n{section.title}", style="bold", soft_wrap=True)
        if section.rows:
            table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
            for title, right in section.columns:
                table.add_column(title, justify="right" if right else "left", overflow="fold")
            for row in section.rows:
                table.add_row(*row)
            screen.print(table)
        for line in section.lines:
            screen.print(Padding(f"· {line}", (0, 0, 0, 1)))


def as_markdown(sections: list[Section]) -> str:
    """The sections as a document, without plots."""
    parts = []
    for section in [section for section in sections if not section.plots]:
        parts += ["", f"## {section.title}", ""]
        if section.rows:
            parts.append(f"| {' | '.join(title for title, _ in section.columns)} |")
            parts.append(f"| {' | '.join('---:' if right else '---' for _, right in section.columns)} |")
            parts += [
                f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in section.rows
            ]
            parts.append("")
        parts += [f"* {line}" for line in section.lines]
    return "\n".join(parts) + "\n"


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;"
    "text-align:left;vertical-align:top}.n{text-align:right;white-space:nowrap}img{max-width:100%}"
    "figure{margin:1.5em 0}figcaption{color:#555}h2{margin-top:2em}div{overflow-x:auto}"
)


def as_html(title: str, sections: list[Section]) -> str:
    """The sections as one self-contained file, with the plots inside."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
    ]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.rows:
            parts.append(_html_table(section))
        if section.lines:
            parts.append(f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in section.lines)}</ul>")
        for plot in section.plots:
            data = base64.b64encode(plot.png).decode()
            words = html.escape(plot.title)
            parts.append(
                f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
                f"<figcaption>{words}</figcaption></figure>"
            )
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _html_table(section: Section) -> str:
    marks = [' class="n"' if right else "" for _, right in section.columns]
    head = "".join(
        f"<th{mark}>{html.escape(t)}</th>" for (t, _), mark in zip(section.columns, marks, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{mark}>{html.escape(cell)}</td>" for cell, mark in zip(row, marks, strict=True))
        + "</tr>"
        for row in section.rows
    )
    return f"<div><table><tr>{head}</tr>{body}</table></div>"
