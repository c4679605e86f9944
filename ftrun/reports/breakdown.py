"""What stands behind a score, on the terminal: tables of numbers by class, type or whatever a task counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MOST = 12  # rows and columns of a table that is shown
WIDEST = 16  # letters of a row's or column's name
CORNERS = {"confusion": "given ↓ answered →"}  # what a table's name alone would not say


def tables(details: dict[str, Any], form: Callable[[float, str], str], file: Path) -> Iterator[Any]:
    """Each table as rich shows it, or a line that says where it stands; `form` writes a column's number."""
    from rich.table import Table

    for name, rows in details.items():
        columns = columns_of(rows)
        if max(len(rows), len(columns)) > MOST:
            yield f"{name}: {len(rows)} rows, in {file}"
            continue
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column(CORNERS.get(name, name))
        for column in columns:
            table.add_column(short(column), justify="right")
        for row, values in rows.items():
            table.add_row(short(row), *(cell(values.get(column), column, form) for column in columns))
        yield table


def columns_of(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The names of the columns: those that are rows too in the rows' order, then the others as they come."""
    seen = dict.fromkeys(column for values in rows.values() for column in values)
    return [row for row in rows if row in seen] + [column for column in seen if column not in rows]


def cell(value: float | None, column: str, form: Callable[[float, str], str]) -> str:
    """A count as it is, a score as the column's name wants it, a dot for nothing."""
    if value is None:
        return "·"
    return f"{value:,}" if isinstance(value, int) else form(value, column)


def short(name: str) -> str:
    return name if len(name) <= WIDEST else name[: WIDEST - 1] + "…"
