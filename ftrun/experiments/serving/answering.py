"""The answers to rows that came with requests: those that `ftrun predict` gives to a file of them."""

from __future__ import annotations

import base64
import binascii
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, DataError, UserError
from ftrun.runs.content import brief

if TYPE_CHECKING:
    from ftrun.experiments.inference import FinishedRun

IMAGE = "image"  # of a row: an image file, in base64
READS = ("text", "tokens", "question", "context", "prompt")  # settings that name the columns of a row
NAME = "rows"  # what the rows of a request are called in messages
Row = dict[str, Any]
Answers = list[dict[str, Any]]


class Answering:
    """A finished run, and what it makes of rows."""

    def __init__(self, finished: FinishedRun) -> None:
        self.finished = finished
        self.task: dict[str, Any] = finished.settings.raw["task"]
        self.images = IMAGE in self.task
        text = self.task.get("text")
        self.column = text if isinstance(text, str) else None  # of rows that are texts alone

    @property
    def columns(self) -> dict[str, str]:
        """The columns that a row may have for the network to read, with what each holds."""
        if self.images:
            return {IMAGE: "image"}
        found: dict[str, str] = {}
        for setting in READS:
            if setting in self.task:
                given = self.task[setting] or setting
                kind = "words" if setting == "tokens" else "text"
                found |= dict.fromkeys(given if isinstance(given, list) else [str(given)], kind)
        return found

    def rows(self, given: Any) -> list[Row]:
        """The rows of a request, a text being a row of the run's only column; DataError for anything else."""
        if not isinstance(given, list) or not given:
            raise DataError(f"{NAME}: a list with a row or more is needed")
        for number, row in enumerate(given, 1):
            if not isinstance(row, dict) and not (isinstance(row, str) and self.column):
                names = ", ".join(self.columns)
                texts = f"{names and f' with {names}'}{', or a text' if self.column else ''}"
                raise DataError(f"row {number} of {NAME} is {brief(row)}; possible: an object{texts}")
        return [{str(self.column): row} if isinstance(row, str) else row for row in given]

    def each(self, requests: Sequence[list[Row]]) -> list[Answers | UserError]:
        """The answers to the rows of each request, or why there are none.

        Requests with the same columns are answered together; where one of them cannot be read, each alone.
        """
        groups: dict[frozenset[str], list[int]] = {}
        for number, rows in enumerate(requests):
            groups.setdefault(frozenset(name for row in rows for name in row), []).append(number)
        found: dict[int, Answers | UserError] = {}
        for group in groups.values():
            found |= zip(group, self.together([requests[number] for number in group]), strict=True)
        return [found[number] for number in range(len(requests))]

    def together(self, requests: list[list[Row]]) -> list[Answers | UserError]:
        try:
            answers = iter(self.answers([row for rows in requests for row in rows]))
        except UserError as error:
            if len(requests) == 1:
                return [error]
            return [self.together([rows])[0] for rows in requests]
        return [[next(answers) for _ in rows] for rows in requests]

    def answers(self, rows: list[Row]) -> Answers:
        """One answer for each row, in their order; of a row that has none every value is null."""
        with tempfile.TemporaryDirectory(prefix="ftrun-") as made, redirect_stdout(StringIO()):
            place = Path(made)
            file = place / f"{NAME}.jsonl"
            written = list(self.with_files(rows, place)) if self.images else rows
            file.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
            try:
                data = self.finished.data(str(file), answered=False)
                found, columns = self.finished.answers(data), data.scorer.columns
            except (DataError, ConfigError) as error:
                raise DataError(str(error).replace(str(file), NAME)) from None
        return [dict.fromkeys(columns) | found.get(number, {}) for number in range(len(rows))]

    def with_files(self, rows: list[Row], place: Path) -> Iterator[Row]:
        """Rows that name files, written into the directory, in the place of rows that hold them."""
        for number, row in enumerate(rows, 1):
            try:
                content = base64.b64decode(row[IMAGE], validate=True)
            except (KeyError, TypeError, ValueError, binascii.Error):
                raise DataError(f"row {number} of {NAME}: {IMAGE} is an image file in base64") from None
            name = f"row {number}"  # which a message has
            (place / name).write_bytes(content)
            yield {self.task[IMAGE] or "file": name}
