"""The ledger of a study: which experiments finished or failed, identified by their settings and the code."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import ftrun
from ftrun.errors import UserError
from ftrun.runs.content import TEXT, lines_of
from ftrun.runs.files import append_line
from ftrun.runs.run import RESULT

LEDGER = "ledger.jsonl"
ENTRY = {"key!": TEXT, "run!": TEXT, "state!": TEXT, "message": TEXT}


class Ledger:
    """ledger.jsonl in the study's directory; the last line of a key counts, unless its run was deleted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / LEDGER
        try:
            self.entries = {line["key"]: line for line in lines_of(self.file, ENTRY)}
        except UserError as error:
            raise UserError(
                f"{error}; delete that line, or the file if every run is to be made again"
            ) from None

    def place_of(self, key: str) -> Path | None:
        """The run directory of a finished experiment; None where there is none."""
        entry = self.entries.get(key, {})
        place = self.directory / entry.get("run", ".")
        return place if entry.get("state") == "finished" and (place / RESULT).is_file() else None

    def ended(self, place: Path) -> bool:
        """Whether a run directory was noted as finished, of whatever experiment."""
        run = str(place.relative_to(self.directory))
        return any(entry["run"] == run and entry["state"] == "finished" for entry in self.entries.values())

    def write(self, key: str, place: Path, state: str, message: str = "") -> None:
        """One more line, on the disk when this returns."""
        self.directory.mkdir(parents=True, exist_ok=True)
        line = {"key": key, "run": str(place.relative_to(self.directory)), "state": state, "message": message}
        append_line(self.file, line)
        self.entries[key] = line


def study_of(path: Path) -> Path | None:
    """The directory of the sweep or study that a path in one of its runs belongs to."""
    near = path.absolute().parents[1:4]  # what a run holds lies one or two levels below its study's folders
    return next((place for place in near if (place / LEDGER).is_file()), None)


def key_of(raw: dict[str, Any]) -> str:
    """A hash of the resolved settings and of ftrun's code: what decides the numbers of a run."""
    text = json.dumps(raw, sort_keys=True, default=str) + code_version()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_version() -> str:
    """A hash of every module of the installed package."""
    package = Path(ftrun.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()
