"""The ledger of a study: which experiments finished or failed, identified by their settings and the code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import ftrun
from ftrun.errors import UserError, shortened
from ftrun.runs.content import TEXT, fault, read_object
from ftrun.runs.files import as_json, flush, naming, unique
from ftrun.runs.run import RESULT
from ftrun.runs.terminal import say

LEDGER = "ledger"  # in the directory of a study: KEY.json for each experiment
FORMER = "ledger.jsonl"  # of earlier versions, a line for each; read where there is no KEY.json
WRITTEN = ".new"  # where a file is written before it gets its name
LONGEST = 500  # characters of a message
ENTRY = {"key!": TEXT, "run!": TEXT, "state!": TEXT, "message": TEXT}
Entry = dict[str, Any]


class Ledger:
    """A file for each key in the study's directory, whole or absent, whoever else writes others.

    What a key's file says counts unless its run was deleted. A damaged one is said in a line, and is as none.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.folder = directory / LEDGER
        self._told: set[str] = set()

    def entry(self, key: str) -> Entry | None:
        """What is noted of an experiment at this moment; None where nothing is."""
        return self._read(key) or self._former.get(key)

    def place_of(self, key: str) -> Path | None:
        """The run directory of a finished experiment; None where there is none."""
        entry = self.entry(key) or {}
        place = self.directory / entry.get("run", ".")
        return place if entry.get("state") == "finished" and (place / RESULT).is_file() else None

    def ended(self, place: Path) -> bool:
        """Whether a run directory was noted as finished, of whatever experiment."""
        return str(place.relative_to(self.directory)) in self._ended

    def write(self, key: str, place: Path, state: str, message: str = "") -> None:
        """Note what became of an experiment, on the disk when this returns.

        What is finished stays so: of two processes that made the same one, the other may have failed.
        """
        if state != "finished" and self.place_of(key) is not None:
            return
        run = str(place.relative_to(self.directory))
        entry = {"key": key, "run": run, "state": state, "message": shortened(message, LONGEST)}
        self._replace(key, as_json(entry))
        if (known := self.__dict__.get("_ended")) is not None:
            (known.add if state == "finished" else known.discard)(run)

    def entries(self) -> Iterator[Entry]:
        """All that is noted, of each key once."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        keys = [name.removesuffix(".json") for name in sorted(names) if name.endswith(".json")]
        for key in dict.fromkeys([*self._former, *keys]):
            if (entry := self.entry(key)) is not None:
                yield entry

    @cached_property
    def _ended(self) -> set[str]:
        return {entry["run"] for entry in self.entries() if entry["state"] == "finished"}

    @cached_property
    def _former(self) -> dict[str, Entry]:
        file, found = self.directory / FORMER, {}
        try:
            lines = file.read_bytes().splitlines(keepends=True)
        except OSError:
            lines = []
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n"):  # else a killed process wrote it
                try:
                    entry = json.loads(line)
                    wrong = fault(entry, ENTRY, "")
                except (ValueError, RecursionError) as error:
                    wrong = str(error)
                if wrong:
                    self._tell(f"line {number} of {file} is damaged: {wrong}")
                else:
                    found[entry["key"]] = entry
        return found

    def _read(self, key: str) -> Entry | None:
        file = self.folder / f"{key}.json"
        try:
            found = read_object(file)
            wrong = "" if found is None else fault(found, ENTRY, "")
            if not wrong and found is not None and found["key"] != key:
                wrong = f"its key is {found['key']}"
        except UserError as error:
            self._tell(str(error))
            return None
        if wrong:
            self._tell(f"{file} is damaged: {wrong}")
        return None if wrong else found

    def _tell(self, fault: str) -> None:
        """Say once that an entry does not count."""
        if fault not in self._told:
            self._told.add(fault)
            say(f"warning: {fault}; a run that it names is made again")

    def _replace(self, key: str, text: str) -> None:
        """Give a key's file this content.

        What is written before is in a folder of its own, so that what a killed process left of this key is
        found without reading all names. Who writes the same key at the same time begins once more.
        """
        file, written = self.folder / f"{key}.json", self.folder / WRITTEN
        written.mkdir(parents=True, exist_ok=True)
        while True:
            for left in written.glob(f"{key}.*"):
                left.unlink(missing_ok=True)
            fresh = written / f"{key}.{unique()}"
            try:
                with naming(file), open(fresh, "x", encoding="utf-8") as opened:
                    opened.write(text)
                    flush(opened)
                os.replace(fresh, file)
                return
            except FileNotFoundError:
                if not written.is_dir():
                    raise
            finally:
                fresh.unlink(missing_ok=True)


def is_study(place: Path) -> bool:
    """Whether a directory has a ledger."""
    return (place / LEDGER / WRITTEN).is_dir() or (place / FORMER).is_file()


def study_of(path: Path) -> Path | None:
    """The directory of the sweep or study that a path in one of its runs belongs to."""
    near = path.absolute().parents[1:4]  # what a run holds lies one or two levels below its study's folders
    return next((place for place in near if is_study(place)), None)


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
