"""Tables behind a score, on the terminal: numbers by class, by entity type or whatever a task counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftrun.errors import counted

MOST = 12  # rows or columns; a larger table is left to the file
WIDEST = 16  # characters of a row's or column's name
CORNERS = {"confusion": "true ↓ predicted →"}  # instead of the table's name


def tables(details: dict[str, Any], form: Callable[[float, str], str], file: Path | None) -> Iterator[Any]:
    """Each table for rich, or a line that names its file, if any; `form` formats a number of a column."""
    from rich.table import Table

    for name, rows in details.items():
        columns = columns_of(rows)
        if max(len(rows), len(columns)) > MOST:
            yield f"{name}: {counted(len(rows), 'row')}, {f'in {file}' if file else 'too many to show'}"
            continue
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column(CORNERS.get(name, name))
        for column in columns:
            table.add_column(short(column), justify="right")
        for row, values in rows.items():
            table.add_row(short(row), *(cell(values.get(column), column, form) for column in columns))
        yield table


def columns_of(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The names of the columns: those that are also rows, in the order of the rows, then the others."""
    seen = dict.fromkeys(column for values in rows.values() for column in values)
    return [row for row in rows if row in seen] + [column for column in seen if column not in rows]


def cell(value: float | None, column: str, form: Callable[[float, str], str]) -> str:
    """A count as it is, a score formatted by its column's name, a dot for a missing value."""
    if value is None:
        return "·"
    return f"{value:,}" if isinstance(value, int) else form(value, column)


def short(name: str) -> str:
    return name if len(name) <= WIDEST else name[: WIDEST - 1] + "…"
