"""The checkpoint below adapters, kept beside them, so that nobody needs another place to read them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from ftrun import ASSETS
from ftrun.models.files.locate import WHOLE, Checkpoint
from ftrun.models.files.reading import CONFIG, stored
from ftrun.models.files.stored import shards
from ftrun.models.shards import LEAST_BYTES, linked
from ftrun.runs.artifacts import BASE, MERGED
from ftrun.runs.ledger import study_of
from ftrun.runs.manifest import entry

EMBEDDED = "embedded:"
PARTS = ("model", MERGED, "start")  # of a run's directory: a network in there has the run's name


def named(source: str) -> str:
    """What a checkpoint is called elsewhere: its name on the Hub, else its directory's without the path."""
    place = Path(source).expanduser().absolute()
    if place.parent == ASSETS:
        return EMBEDDED + place.name
    if on_hub(source) or source.startswith(EMBEDDED):
        return source
    return next(part for part in reversed(place.parts) if part not in PARTS)


def on_hub(source: str) -> bool:
    """Whether a checkpoint's name is one of the Hub, and no directory's."""
    if source.startswith((EMBEDDED, "/", ".", "~")) or source.count("/") > 1:
        return False
    return not Path(source).is_dir()


def keep(source: str, revision: str | None, directory: Path) -> list[str]:
    """Put the weights of a checkpoint into the directory's base/, and return the files of safetensors there.

    Large ones are hard links, to the checkpoint itself or to what another run of the study has; on a disk
    without them they are copies. Nothing is kept of a checkpoint whose safetensors are not on this machine.
    """
    place = directory / BASE
    shutil.rmtree(place, ignore_errors=True)
    files = files_of(source, revision)
    if files:
        place.mkdir()
        config = stored(Checkpoint(source, {}).cached(CONFIG) or Path(source) / CONFIG)
        config.pop("_name_or_path", None)  # a place on the machine where it was made
        (place / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in files:
        bring(file, place / file.name, directory)
    return [f"{BASE}/{file.name}" for file in files if file.suffix == ".safetensors"]


def files_of(source: str, revision: str | None) -> list[Path]:
    """The files that transformers reads the weights from, and the code that belongs to them."""
    checkpoint = Checkpoint(source, {"revision": revision} if revision else {})
    whole, index = (checkpoint.cached(name) for name in WHOLE)
    code = sorted(Path(source).glob("*.py")) if Path(source).is_absolute() else []
    if whole is not None:
        return [whole, *code]
    if index is None:
        return []
    parts = [part for part in shards(checkpoint, index) if part is not None]
    return [index, *parts, *code]


def bring(file: Path, target: Path, directory: Path) -> None:
    """The same content under another name."""
    large = file.stat().st_size >= LEAST_BYTES
    if not (large and any(linked(place, target) for place in places(file, directory))):
        shutil.copyfile(file, target)


def linked_or_copied(file: str, target: str) -> None:
    """The same for one file of a directory that is copied whole."""
    bring(Path(file), Path(target), Path(target).parent)


def places(file: Path, directory: Path) -> Iterator[Path]:
    """The file itself, and the copies of it that other runs of the study have."""
    yield file.resolve()
    if (study := study_of(directory)) is not None:
        content = entry(file, sampled=True)
        for runs in ("*", "*/*"):
            for place in study.glob(f"{runs}/model/{BASE}/{file.name}"):
                if entry(place, sampled=True) == content:
                    yield place


def lies(directory: Path, name: str) -> str:
    """Where the checkpoint below the adapters of a directory is: in there, else under the name given."""
    if (directory / BASE).is_dir():
        return str(directory / BASE)
    return str(ASSETS / name.removeprefix(EMBEDDED)) if name.startswith(EMBEDDED) else name
