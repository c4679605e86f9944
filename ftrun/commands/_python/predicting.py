"""Answers to rows that are in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from ftrun.experiments.inference import FinishedRun


def predicted(finished: FinishedRun, rows: Any) -> list[dict[str, Any]]:
    """One answer for each row, in their order; empty for a row that the task gives none."""
    with in_file(finished, rows) as name:
        data = finished.data(name, answered=False)
        answers, columns = finished.answers(data), data.scorer.columns
        return [dict.fromkeys(columns) | answers.get(row, {}) for row in range(len(data.rows.inputs))]


@contextmanager
def in_file(finished: FinishedRun, rows: Any) -> Iterator[str]:
    """The name of a file with these rows, as --input takes it."""
    if isinstance(rows, str | Path):
        yield str(rows)
        return
    with tempfile.TemporaryDirectory(prefix="ftrun-") as place:
        file = Path(place) / "rows.jsonl"
        if hasattr(rows, "to_json"):
            rows.to_json(file, orient="records", lines=True, force_ascii=False)
        else:
            records = list(recorded(finished, rows))
            file.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
        yield str(file)


def recorded(finished: FinishedRun, rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Texts become rows of the run's column of texts; rows stay."""
    column = finished.run.settings["task"].get("text")
    for row in rows:
        if isinstance(row, Mapping):
            yield dict(row)
        elif isinstance(row, str) and isinstance(column, str):
            yield {column: row}
        else:
            raise ConfigError(
                f"predict: {type(row).__name__} is no row of this run; possible: a DataFrame or dicts with"
                " the columns of its rows, the name of a file, and texts where it reads one column of texts"
            )
