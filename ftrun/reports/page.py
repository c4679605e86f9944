"""The page of a comparison: tables, sentences and pictures, as markdown, HTML or on the terminal."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftrun.reports.labelling import label_words
from ftrun.reports.summary import count, duration, score, size
from ftrun.reports.verdicts import chance, elbow, interval, sentence

if TYPE_CHECKING:
    from rich.console import Console

    from ftrun.reports.comparison import Row
    from ftrun.reports.study import Group, Study, Tried


@dataclass
class Picture:
    """A figure as PNG, and what it shows."""

    name: str  # of a file, without ending
    title: str
    png: bytes


@dataclass
class Section:
    """A heading with what stands under it."""

    title: str
    columns: list[tuple[str, bool]] = field(default_factory=list)  # title, whether numbers
    rows: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


def sections_of(group: Group) -> list[Section]:
    """What is to be said of runs that belong together."""
    metric = group.metric
    rows = [_cells(study, metric) for study in group.studies]
    titles = [title for title, _ in COLUMNS]
    used = [place for place in range(len(titles)) if any(row[place] for row in rows)]
    table = Section(
        f"{group.task}: {metric} on {group.items:,} test examples, 95 % intervals",
        [COLUMNS[place] for place in used],
        [[row[place] for place in used] for row in rows],
        [f"{study.name}: standard error {chance(study, metric)}" for study in group.studies],
    )
    found = [table]
    if group.pairs:
        title = f"Which is better? ({len(group.pairs)} tests, Holm's correction)"
        found.append(Section(title, lines=[sentence(pair, group) for pair in group.pairs]))
    if ranked := elbow(group):
        found.append(Section("Rank", lines=[ranked[2]]))
    if lines := label_words(group):
        found.append(Section("Labels", lines=lines))
    if lines := _untaught(group):
        found.append(Section("Learning", lines=lines))
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
        f"dominated by {study.dominated_by}" if study.dominated_by else "★",
    ]


def _untaught(group: Group) -> list[str]:
    """A line for each study of which a run has learned nothing."""
    seen = [(study, [each for each in study.tried if each.diagnosis.untaught]) for study in group.studies]
    return [_told(study, found, found[0]) for study, found in seen if found]


def _told(study: Study, seen: list[Tried], clearest: Tried) -> str:
    often = f"{len(seen)} of {len(study.tried)} runs; " if len(study.tried) > 1 else ""
    return f"{study.name} ({often}seed {clearest.row['seed']}) {clearest.diagnosis.text}"


def _overfitting(group: Group) -> list[str]:
    """A line for each study: in how many of its runs, and the words for the clearest of them."""
    lines, healthy = [], []
    for study in group.studies:
        if seen := [each for each in study.tried if each.diagnosis.signs]:
            worst = max(seen, key=lambda each: (len(each.diagnosis.signs), -each.row["seed"]))
            lines.append(_told(study, seen, worst))
        elif not all(each.diagnosis.untaught for each in study.tried):
            healthy.append(study.name)
    if healthy:
        lines.append(f"no sign of it: {', '.join(healthy)}")
    return lines


def runs_section(rows: list[Row]) -> Section:
    """Every run with its state, and why it has no result."""
    from ftrun.reports.comparison import columns_for, heading

    columns = columns_for(rows, heading(rows)[1])
    lines = [f"{row['label']} failed: {row['failure']}" for row in rows if row["state"] == "failed"]
    lines += [
        f"{row['label']} is {row['state']}" for row in rows if row["state"] in ("interrupted", "running")
    ]
    lines += [f"damaged: {row['failure']}" for row in rows if row["state"] == "damaged"]
    cells = [[column.text(row) for column in columns] for row in rows]
    return Section("Runs", [(column.title, column.right) for column in columns], cells, lines)


def on_terminal(screen: Console, sections: list[Section]) -> None:
    """As text in the terminal, long lines folded."""
    from rich import box
    from rich.padding import Padding
    from rich.table import Table

    for section in sections:
        if section.pictures:
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
    """As a document; pictures are named, not shown."""
    parts = []
    for section in [section for section in sections if not section.pictures]:
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
    """As one file that needs no other: the pictures are inside."""
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
        for picture in section.pictures:
            data = base64.b64encode(picture.png).decode()
            words = html.escape(picture.title)
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
