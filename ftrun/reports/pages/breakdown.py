"""Tables behind a score, on the terminal: numbers by class, by entity type or whatever a task counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import counted
from ftrun.reports.numbers import distinct

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

Rows = dict[str, dict[str, Any]]  # a row's name → a column's → a number
Form = Callable[[float, str], str]  # a number of the named column as text

MOST = 12  # rows or columns of a whole table
SHOWN = 10  # rows of the part of a larger one
WIDEST, LONGEST = 16, 32  # characters of the name of a column, of a row
CORNERS = {"confusion": "true ↓ predicted →"}  # instead of the table's name
RANKED = "f1"  # the column by which the rows of a large table are chosen, the lowest first


def tables(details: dict[str, Rows], form: Form, file: Path | None, width: int) -> Iterator[Any]:
    """Each table for rich in `width` columns of the terminal, or what matters most in it.

    A square table of counts that is too large becomes its largest counts beside the diagonal, any other the
    rows with the lowest F1.
    """
    for name, rows in details.items():
        columns = columns_of(rows)
        whole = _whole(name, rows, columns, form)
        if max(len(rows), len(columns)) <= MOST and width_of(whole) <= width:
            yield whole
        elif {*columns} <= {*rows}:
            yield _confusions(name, rows, file, width)
        else:
            yield _lowest(name, rows, columns, form, file)


def _whole(name: str, rows: Rows, columns: list[str], form: Form) -> Table:
    titles, names = distinct(columns, WIDEST), distinct(rows, LONGEST)
    table = _table(CORNERS.get(name, name), [titles[column] for column in columns])
    for row, values in rows.items():
        table.add_row(names[row], *(cell(values.get(column), column, form) for column in columns))
    return table


def _confusions(name: str, rows: Rows, file: Path | None, width: int) -> Group:
    """The largest numbers beside the diagonal of a square table, with their shares of the row."""
    found = [
        (number, given, answer)
        for given, values in rows.items()
        for answer, number in values.items()
        if given != answer and number
    ]
    found.sort(key=lambda each: -each[0])  # those alike in the order of the classes
    shown = found[:SHOWN]
    room = max(8, min(LONGEST, (width - 24) // 2))
    names = distinct([row for _, *pair in shown for row in pair], room)
    table = _table("true", ["→ predicted", "count", "of class"])
    table.columns[1].justify = "left"
    for number, given, answer in shown:
        part = f"{100 * number / sum(rows[given].values()):.1f} %"
        table.add_row(names[given], f"→ {names[answer]}", f"{number:,}", part)
    return _part(f"{name}: the largest {len(shown)} of {counted(len(found), 'pair')}", file, table)


def _lowest(name: str, rows: Rows, columns: list[str], form: Form, file: Path | None) -> Group:
    """The rows with the lowest F1, those without one last; of a table without F1 the first rows."""
    chosen, what = [*rows], "the first"
    if RANKED in columns:
        known = {row: values[RANKED] for row, values in rows.items() if values.get(RANKED) is not None}
        chosen.sort(key=lambda row: known.get(row, math.inf))
        what = f"the lowest {RANKED}"
    chosen = chosen[:SHOWN]
    table = _whole(name, {row: rows[row] for row in chosen}, columns, form)
    return _part(f"{name}: {what}, {len(chosen)} of {counted(len(rows), 'row')}", file, table)


def _part(title: str, file: Path | None, table: Table) -> Group:
    from rich.console import Group
    from rich.text import Text

    return Group(Text(f"{title} (all: {file.name})" if file else title, style="dim"), table)


def _table(corner: str, columns: Iterable[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(corner)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def width_of(table: Table) -> int:
    """The width at which nothing of a table is cut or folded."""
    from rich.console import Console

    return Console(width=100_000).measure(table).maximum


def columns_of(rows: Rows) -> list[str]:
    """The names of the columns: those that are also rows, in the order of the rows, then the others."""
    seen = dict.fromkeys(column for values in rows.values() for column in values)
    return [row for row in rows if row in seen] + [column for column in seen if column not in rows]


def cell(value: float | None, column: str, form: Form) -> str:
    """A count as it is, a score formatted by its column's name, a dot for a missing value."""
    if value is None:
        return "·"
    return f"{value:,}" if isinstance(value, int) else form(value, column)
