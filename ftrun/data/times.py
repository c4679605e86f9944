"""Rows in the order of time: what a column says of it, and splits that train on what came before."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Any

from ftrun.errors import DataError, counted, kind_of

Moment = Any  # a float or a datetime; those that are compared are of one kind
MONTH = re.compile(r"\d{4}-\d{2}")


def moment(value: Any) -> Moment | None:
    """The number or ISO 8601 date of a cell, None where it is empty; DataError for anything else.

    A date without a time zone is taken as UTC.
    """
    if hasattr(value, "item") and not isinstance(value, int | float):
        value = value.item()
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, str):
        value = _written(value.strip())
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"a time is a number or an ISO date, not {kind_of(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise DataError(f"{str(value)[:40]} is no time: a number or an ISO date is needed")
    return number


def _written(text: str) -> float | datetime:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(f"{text}-01" if MONTH.fullmatch(text) else text)
    except ValueError:
        raise DataError(
            f"{text[:40]!r} is neither a number nor an ISO date such as 2024-05-31 or 2024-05-31T14:00"
        ) from None


def shown(found: Moment) -> str:
    """A time as a person writes it."""
    if isinstance(found, float):
        return f"{found:.15g}"
    return found.isoformat().replace("+00:00", "").removesuffix("T00:00:00")


def held_out(
    times: list[Moment], missing: list[str], share: float, column: str
) -> tuple[dict[str, list[int]], list[str]]:
    """Indices of train and of each missing split, the first of these being the last in time.

    Equal times never part: each split begins where the time changes, as near to its share as that allows.
    """
    order = sorted(range(len(times)), key=times.__getitem__)
    places = _changes(times, order)
    if len(places) < len(missing):
        raise DataError(
            f"task.time={column}: {counted(len(places) + 1, 'different time')} for train,"
            f" {' and '.join(reversed(missing))} and none to share"
        )
    size, end = max(1, round(share * len(times))), len(times)
    chosen, notes = {}, []
    for left, split in zip(range(len(missing) - 1, -1, -1), missing, strict=True):
        possible = [place for place in places if place < end][left:]  # what is left for the other splits
        begin = min(possible, key=lambda place: (abs(end - size - place), place))
        chosen[split] = sorted(order[begin:end])
        since, until = (shown(times[order[place]]) for place in (begin, end - 1))
        notes.append(
            f"{split}: {counted(end - begin, 'row')} split off train, the last by {column}"
            f" ({since} to {until})"
        )
        end = begin
    return {"train": sorted(order[:end]), **chosen}, notes


def fold(times: list[Moment], folds: int, number: int, column: str) -> tuple[list[int], list[int]]:
    """Indices of what came before and of one fold, by scikit-learn's TimeSeriesSplit.

    Every fold begins where the time changes, as near to where it should as that allows.
    """
    from sklearn.model_selection import TimeSeriesSplit

    order = sorted(range(len(times)), key=times.__getitem__)
    places = _changes(times, order)
    if len(places) < folds + 1:
        raise DataError(
            f"task.folds={folds}: task.time={column} has {counted(len(places) + 1, 'different time')};"
            f" {folds} folds, with training and validation rows before the first, need {folds + 2}"
        )
    wanted = [int(test[0]) for _, test in TimeSeriesSplit(folds).split(order)]
    begins: list[int] = []
    for left, place in enumerate(wanted):  # a change is left for validation, and one for each later fold
        after = [change for change in places[1:] if not begins or change > begins[-1]]
        possible = after[: len(after) - (folds - 1 - left)]
        begins.append(min(possible, key=lambda change: (abs(change - place), change)))
    begin, end = begins[number], [*begins, len(times)][number + 1]
    return sorted(order[:begin]), sorted(order[begin:end])


def _changes(times: list[Moment], order: list[int]) -> list[int]:
    """Places of the sorted rows whose time is later than that of the row before."""
    return [place for place in range(1, len(order)) if times[order[place - 1]] < times[order[place]]]


def ends(times: list[Moment], rows: list[int]) -> tuple[int, int]:
    """The first and the last of some rows in time."""
    return min(rows, key=times.__getitem__), max(rows, key=times.__getitem__)
