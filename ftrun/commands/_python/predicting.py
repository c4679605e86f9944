"""Answers to rows that are in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.commands._python.asking import as_jsonl, is_frame
from ftrun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ftrun.experiments.inference import FinishedRun


def predicted(finished: FinishedRun, rows: Any) -> list[dict[str, Any]]:
    """One answer for each row, in their order; empty for a row that the task gives none."""
    with in_file(finished, rows) as name:
        try:
            data = finished.data(name, answered=False)
            answers, columns = finished.answers(data), data.scorer.columns
        except (DataError, ConfigError) as error:
            raise type(error)(str(error).replace(name, "rows") if made_for(rows) else str(error)) from None
        return [dict.fromkeys(columns) | answers.get(row, {}) for row in range(len(data.rows.inputs))]


def made_for(rows: Any) -> bool:
    """Whether the rows are in memory, and in a file for a moment only."""
    return not isinstance(rows, str | Path)


@contextmanager
def in_file(finished: FinishedRun, rows: Any) -> Iterator[str]:
    """The name of a file with these rows, as --input takes it."""
    if not made_for(rows):
        yield str(rows)
        return
    with tempfile.TemporaryDirectory(prefix="ftrun-") as place:
        file = Path(place) / "rows.jsonl"
        if is_frame(rows):
            file.write_text(as_jsonl(rows), encoding="utf-8")
        else:
            records = list(recorded(finished, rows))
            file.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
        yield str(file)


def recorded(finished: FinishedRun, rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Texts, and what is missing among them, become rows of the run's column of texts; rows stay."""
    column = finished.run.settings["task"].get("text")
    for row in rows:
        if isinstance(row, Mapping):
            yield dict(row)
        elif isinstance(column, str) and (isinstance(row, str) or row is None or row != row):
            yield {column: row if isinstance(row, str) else None}
        else:
            raise ConfigError(
                f"predict: {type(row).__name__} is no row of this run; possible: a DataFrame or dicts with"
                " the columns of its rows, the name of a file, and texts where it reads one column of texts"
            )
