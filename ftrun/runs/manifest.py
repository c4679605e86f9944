"""What files were when they were written, so that one which has changed is noticed before it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ftrun.errors import ConfigError
from ftrun.runs.artifacts import BOTTLENECKS, LORA
from ftrun.runs.files import umask_mode, write_atomically

SEAL = "sha256.json"  # in the directory of a saved model
TOLD = (".md", ".yaml")  # endings of files for people: they decide no answer, and may be edited
CALIBRATION = "ftrun_calibration"
LOOSE = {  # a setting that may change: where the base of adapters lies, and a calibration
    LORA: "base_model_name_or_path", BOTTLENECKS: "base_model", "config.json": CALIBRATION,
}  # fmt: skip

Entry = dict[str, Any]


def seal(directory: Path) -> None:
    """Keep the size and the hash of every file of a saved model, whose modes become the umask's."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    for file in files:
        umask_mode(file)
    kept = [file for file in files if file.suffix not in TOLD and file.name != SEAL]
    content = {str(file.relative_to(directory).as_posix()): entry(file) for file in kept}
    write_atomically(directory / SEAL, json.dumps(content, indent=1) + "\n")


def verify(directory: Path) -> None:
    """ConfigError where a file of a sealed model is no more what it was; nothing is known of others."""
    if not (directory / SEAL).is_file():
        return
    status = [(path, path.stat()) for path in sorted(directory.rglob("*")) if path.is_file()]
    found = _fault(directory, *((str(path), each.st_mtime_ns, each.st_size) for path, each in status))
    if found:
        raise ConfigError(
            f"{directory} is damaged: {found} since it was saved; restore it, or delete {directory / SEAL}"
            " to use it as it is"
        )


@cache
def _fault(directory: Path, *_: tuple[str, int, int]) -> str:
    """Found once in a process for files of the same names, times and sizes."""
    return fault(directory, entries_of(directory))


def entries_of(directory: Path) -> dict[str, Entry]:
    """The entries of a directory's seal by the names of the files; ConfigError where it is damaged."""
    path = directory / SEAL
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    if not isinstance(found, dict) or not all(
        isinstance(each, dict) and {"size", "sha256"} <= each.keys() for each in found.values()
    ):
        raise ConfigError(f"{path} is damaged: it does not say what the files are")
    return found


def fault(directory: Path, entries: dict[str, Entry]) -> str:
    """What is wrong with the first file that is not as its entry says, "" where all are."""
    for name, expected in entries.items():
        file = directory / name
        if not file.is_file():
            return f"{name} is missing"
        if expected["size"] is not None and file.stat().st_size != expected["size"]:
            return f"{name} has {file.stat().st_size} bytes instead of {expected['size']}"
        if digest(file) != expected["sha256"]:
            return f"the content of {name} has changed"
    return ""


def entries(files: Iterable[Path]) -> dict[str, Entry]:
    """Of files in one directory."""
    return {file.name: entry(file) for file in files}


def entry(file: Path) -> Entry:
    """Its size in bytes, unless it has a setting that may change, and its hash."""
    return {"size": None if file.name in LOOSE else file.stat().st_size, "sha256": digest(file)}


def digest(file: Path) -> str:
    """SHA-256 of the content; of a file with a setting that may change, of what else it says."""
    if file.name in LOOSE:
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
            settings.pop(LOOSE[file.name], None)
            return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        except (ValueError, AttributeError, TypeError):
            pass  # it is damaged, and so is its hash
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
