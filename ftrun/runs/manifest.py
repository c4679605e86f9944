"""What files were when they were written, so that one which has changed is noticed before it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ftrun.errors import ConfigError
from ftrun.runs.artifacts import BASE, BOTTLENECKS, LORA
from ftrun.runs.files import umask_mode, write_atomically
from ftrun.runs.warm import Stamp, stamp_of

SEAL = "sha256.json"  # in the directory of a saved model
TOLD = (".md", ".yaml")  # endings of files for people: they decide no answer, and may be edited
CALIBRATION = "ftrun_calibration"
LOOSE = {  # a setting that may change: where the base of adapters lies, and a calibration
    LORA: "base_model_name_or_path", BOTTLENECKS: "base_model", "config.json": CALIBRATION,
}  # fmt: skip

ENDS, PARTS, PART = 2**20, 16, 2**16  # bytes, parts, bytes: weights that were trained again differ everywhere

Entry = dict[str, Any]


def seal(directory: Path) -> None:
    """Keep size and hash of every file of a saved model, whose modes become the umask's.

    Of adapters also those of the weights that they stand beside, of which only a sample is hashed. Files for
    people stand apart: `verify` lets them change.
    """
    files = own(directory)
    for file in files:
        umask_mode(file)
    every = {file.relative_to(directory).as_posix(): entry(file) for file in files if file.name != SEAL}
    content = {
        "files": {name: each for name, each in every.items() if not name.endswith(TOLD)},
        "told": {name: each for name, each in every.items() if name.endswith(TOLD)},
        "base": {file.name: entry(file, sampled=True) for file in base_of(directory)},
    }
    write_atomically(directory / SEAL, json.dumps(content, indent=1) + "\n")


def verify(directory: Path) -> None:
    """ConfigError where a sealed model, or what it stands beside, is no more what it was; see `seal`."""
    if not (directory / SEAL).is_file():
        return
    files = [*own(directory), *base_of(directory)]
    if found := _verified(directory, *(stamp for file in files for stamp in stamp_of(file))):
        raise ConfigError(
            f"{directory} {found} since it was saved; restore it, or delete {directory / SEAL} to use it as"
            " it is"
        )


@cache
def _verified(directory: Path, *_: Stamp) -> str:
    """Found once in a process for files of the same names, times and sizes."""
    content, base = content_of(directory), base_of(directory)
    if found := fault(directory, content["files"]):
        return f"is damaged: {found}"
    found = fault(base[0].parent, content["base"], sampled=True) if base else ""
    return f"holds adapters of other weights: {base[0].parent}: {found}" if found else ""


def own(directory: Path) -> list[Path]:
    """Every file of a saved model but the weights of the checkpoint below it, which others may share."""
    inner = directory / BASE
    return [path for path in sorted(directory.rglob("*")) if path.is_file() and inner not in path.parents]


def base_of(directory: Path) -> list[Path]:
    """The files of weights that the adapters of a directory stand beside, if these are on this machine."""
    if kept := sorted((directory / BASE).glob("*.safetensors")):
        return kept
    for name in (LORA, BOTTLENECKS):
        with suppress(OSError, ValueError, KeyError, TypeError):
            place = Path(json.loads((directory / name).read_text(encoding="utf-8"))[LOOSE[name]])
            return sorted(place.glob("*.safetensors")) if place.is_absolute() else []
    return []


def content_of(directory: Path) -> dict[str, dict[str, Entry]]:
    """What the seal of a directory says; ConfigError where it is damaged."""
    path = directory / SEAL
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        for part in ("files", "base"):
            for each in found[part].values():
                each["size"], each["sha256"]
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is damaged: it does not say what the files are") from None
    return {part: found[part] for part in ("files", "base")}


def fault(directory: Path, entries: dict[str, Entry], sampled: bool = False) -> str:
    """What is wrong with the first file that is not as its entry says, "" where all are."""
    for name, expected in entries.items():
        file = directory / name
        if not file.is_file():
            return f"{name} is missing"
        if expected["size"] is not None and file.stat().st_size != expected["size"]:
            return f"{name} has {file.stat().st_size} bytes instead of {expected['size']}"
        if digest(file, sampled) != expected["sha256"]:
            return f"the content of {name} has changed"
    return ""


def entries(files: Iterable[Path]) -> dict[str, Entry]:
    """Of files in one directory."""
    return {file.name: entry(file) for file in files}


def entry(file: Path, sampled: bool = False) -> Entry:
    """Its size in bytes, unless it has a setting that may change, and its hash."""
    return {"size": None if file.name in LOOSE else file.stat().st_size, "sha256": digest(file, sampled)}


def digest(file: Path, sampled: bool = False) -> str:
    """SHA-256 of the content, or of a sample: ENDS bytes at either end and PARTS parts from end to end.

    Of a file with a setting that may change it is that of what else it says.
    """
    if file.name in LOOSE:
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
            settings.pop(LOOSE[file.name], None)
            return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        except (ValueError, AttributeError, TypeError):
            pass  # it is damaged, and so is its hash
    with file.open("rb") as stream:
        size = file.stat().st_size
        if not sampled or size <= 2 * ENDS:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        found = hashlib.sha256()
        inner = [(number * (size - PART) // (PARTS - 1), PART) for number in range(PARTS)]
        for place, length in ((0, ENDS), (size - ENDS, ENDS), *inner):
            stream.seek(place)
            found.update(stream.read(length))
        return found.hexdigest()
