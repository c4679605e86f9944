"""A report on the terminal: tables with the columns that fit, lines folded; in a pipe nothing is cut."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ftrun.reports.comparison import Row, columns_for, heading, means, plain
from ftrun.reports.numbers import MOST, cut, filled
from ftrun.reports.pages.console import console
from ftrun.reports.pages.page import KEPT, ordered, tabled
from ftrun.reports.summary import SPEEDS
from ftrun.runs.streams import shown
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from ftrun.reports.comparison import Column
    from ftrun.reports.pages.page import Section

STYLES = {"finished": "", "running": "cyan", "interrupted": "yellow", "failed": "red", "damaged": "red"}
NAMES = {"run", "strategy", "task", "model", "Pareto", ""}  # titles of columns of names, which may be folded
RUNS_DROPPED = ("step", *SPEEDS, "memory_bytes", "trained_share", "trained_parameters", "metric",
    "seconds", "forgetting", "eval_score")  # fmt: skip
ROOM = 24  # characters of a name at least, before it is folded
DROPPED = ("on disk", "CPU time", "memory", "Pareto", "trained", "time", "forgetting", "seeds")


def show(rows: list[Row], sections: list[Section]) -> None:
    """The runs and their comparison, with as many columns as fit."""
    screen = console()
    line, agreed = heading(rows)
    screen.print(f"\n{line}", style="bold", soft_wrap=True)
    on_terminal(screen, [section for section in sections if section.lead])
    hidden = _print_runs(screen, rows, agreed)
    averaged = means(rows)
    if averaged and not sections:  # the sections show the means with their intervals
        screen.print("\nmean ± standard deviation over seeds", style="bold")
        _print_runs(screen, averaged, [*agreed, "run", "state", "step"])
    _print_unfinished(screen, rows)
    _tell(screen, hidden)
    on_terminal(screen, [section for section in sections if not section.lead])


def _print_unfinished(screen: Console, rows: list[Row]) -> None:
    """A line for each run without a result, and what to do about it."""
    found = [row for row in rows if row["state"] in ("failed", "interrupted", "damaged")]
    for row in found[:MOST]:
        if row["state"] == "failed":
            screen.print(f"{row['label']} failed: {row['failure']}", style="red", soft_wrap=True)
        elif row["state"] == "interrupted":
            line = f"{row['label']} was interrupted; to continue: {command('resume', row['run'])}"
            screen.print(line, style="yellow", soft_wrap=True)
        else:
            screen.print(f"damaged: {row['failure']}", style="red", soft_wrap=True)
    for line in cut([], len(found)):
        screen.print(line, style="dim", soft_wrap=True)


def on_terminal(screen: Console, sections: Sequence[Section]) -> None:
    """The sections as text, without plots."""
    for section in [section for section in ordered(sections) if section.written]:
        screen.print(f"\n{section.title}", style="bold", soft_wrap=True)
        if section.lead:
            screen.print(section.lead, style="bold green")
        _note(screen, section)
        if section.rows:
            styles = [""] * len(section.rows)
            _tell(screen, _print_fitting(screen, section.columns, section.rows, styles, DROPPED))
        if section.lines:
            screen.print(_bullets(section.lines))


def _note(screen: Console, section: Section) -> None:
    if section.note:
        screen.print(section.note, style="dim")


def _bullets(lines: list[str]) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column()
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row(" ·", line)
    return grid


def _tell(screen: Console, hidden: list[str]) -> None:
    if hidden:
        line = f"columns that do not fit: {', '.join(hidden)} (--format html or csv shows all)"
        screen.print(line, style="dim", soft_wrap=True)


def _print_runs(screen: Console, rows: list[Row], without: list[str]) -> list[str]:
    columns = columns_for(rows, without)
    dropped = [column.title for key in RUNS_DROPPED for column in columns if column.key == key]
    styles = [STYLES[row["state"]] for row in rows]
    if not _fits(screen, _titles(columns), _texts(columns, rows)):
        columns = [replace(each, text=plain("brief")) if each.key == "run" else each for each in columns]
    titles, texts = _titles(columns), _texts(columns, rows)
    if not _fits(screen, titles, texts):
        table = tabled("Runs", titles, texts, KEPT)
        titles, texts = table.columns, table.rows
        _note(screen, table)
    return _print_fitting(screen, titles, texts, styles, dropped)


def _titles(columns: list[Column]) -> list[tuple[str, bool]]:
    return [(column.title, column.right) for column in columns]


def _texts(columns: list[Column], rows: list[Row]) -> list[list[str]]:
    return [[column.text(row) for column in columns] for row in rows]


def _print_fitting(
    screen: Console,
    columns: list[tuple[str, bool]],
    rows: list[list[str]],
    styles: list[str],
    dropped: Sequence[str],
) -> list[str]:
    """Print a table that fits: names are folded first, then columns left out; the titles of these."""
    from rich.segment import Segment, Segments

    hidden: list[str] = []
    for title in dropped:
        if _fits(screen, columns, _folded(columns, rows, ROOM)):
            break
        places = [place for place, (each, _) in enumerate(columns) if each != title]
        if len(places) < len(columns):
            hidden.append(title)
            columns = [columns[place] for place in places]
            rows = [[row[place] for place in places] for row in rows]
    longest = max([ROOM, *(len(text) for row in rows for text in row)])
    fitting = (_folded(columns, rows, room) for room in range(longest, ROOM, -1))
    texts = next((each for each in fitting if _fits(screen, columns, each)), _folded(columns, rows, ROOM))
    whole = not screen.is_terminal and _fits(screen, columns, texts)
    if whole and _is_plain([[title for title, _ in columns], *texts], screen):
        screen.print(Segments([Segment(_in_a_pipe(columns, texts))]), crop=False)
    else:
        screen.print(_table(columns, texts, styles))
    return hidden


def _is_plain(rows: list[list[str]], screen: Console) -> bool:
    """Whether a table has texts of one line each, without blanks around them, for a file of any letters."""
    texts = [text for row in rows for text in row]
    odd = any(each in "".join(texts) for each in "\n\t")
    return screen.encoding.startswith("utf") and not odd and all(text == text.strip() for text in texts)


def _in_a_pipe(columns: list[tuple[str, bool]], rows: list[list[str]]) -> str:
    """The table that rich makes where nothing is coloured, cut or folded; of many rows in far less time."""
    from rich.cells import cell_len

    table = [[shown(text) for text in row] for row in ([title for title, _ in columns], *rows)]
    sizes = [[len(text) if text.isascii() else cell_len(text) for text in row] for row in table]
    widths = [max(own) for own in zip(*sizes, strict=True)]
    lines = []
    for row, own in zip(table, sizes, strict=True):
        blanks = [" " * (width - size) for width, size in zip(widths, own, strict=True)]
        pairs = zip(row, blanks, columns, strict=True)
        cells = [blank + text if right else text + blank for text, blank, (_, right) in pairs]
        lines.append(f" {'  '.join(cells)}".rstrip(" "))
    rule = f" {'─' * (sum(widths) + 2 * len(widths) - 2)}"
    return "\n".join(["", lines[0], rule, *lines[1:], "", ""])


def _folded(columns: list[tuple[str, bool]], rows: list[list[str]], room: int) -> list[list[str]]:
    """The rows with their names on lines of at most `room` characters."""
    names = [title in NAMES for title, _ in columns]
    return [
        [
            "\n".join(filled(text, room)) if name and len(text) > room else text
            for text, name in zip(row, names, strict=True)
        ]
        for row in rows
    ]


def _fits(screen: Console, columns: list[tuple[str, bool]], rows: list[list[str]]) -> bool:
    from rich.cells import cell_len

    widest = [
        max((line for row in rows for line in row[place].split("\n")), key=cell_len, default="")
        for place in range(len(columns))
    ]
    table = _table(columns, [widest], [""])
    return screen.measure(table, options=screen.options.update(max_width=100_000)).maximum <= screen.width


def _table(columns: list[tuple[str, bool]], rows: list[list[str]], styles: list[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for title, right in columns:
        name = title in NAMES
        fold: Literal["fold", "ellipsis"] = "fold" if name else "ellipsis"
        table.add_column(title, justify="right" if right else "left", no_wrap=not name, overflow=fold)
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*row, style=style)
    return table
