"""Where the files that a run's settings name are: a relative name counts from where the run began."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ftrun.errors import DataError

Content = dict[str, Any]
Change = Callable[[Any], Any]  # of what should be a name, but may be anything
SPLITS = ("train", "validation", "test")  # of every kind of task, by which it names its files
ELSEWHERE = ("hub:", "embedded:", "~", "/")  # names that do not depend on the current directory


def home_of(config: Content, path: Path, environment: Content) -> Path:
    """The directory that the settings' relative names count from.

    It is where the run began; where that is as seen from the run, if both were moved; or the current one: the
    first that has every file which any of them has.
    """
    here = Path.cwd()
    places = places_of(path, environment)
    if places == [here]:
        return here
    names = [name for name in names_of(config) if any(there(name, place) for place in places)]
    return next((place for place in places if names and all(there(name, place) for name in names)), here)


def places_of(path: Path, environment: Content) -> list[Path]:
    """The directories that may be meant, each once."""
    begun, run = environment.get("directory"), environment.get("run")
    found = [Path.cwd()]
    if begun:
        moved = [path.resolve() / os.path.relpath(begun, run)] if run else []
        found = [Path(begun), *(Path(os.path.normpath(place)) for place in moved), *found]
    return [place for place in dict.fromkeys(found) if place.is_dir()]


def located(config: Content, home: Path) -> Content:
    """The settings with absolute names for what is in this directory, unless it is the current one."""
    if home == Path.cwd():
        return config
    return mapped(config, lambda name: str(home / name) if is_relative(name) and there(name, home) else name)


def refuse_lost(config: Content, path: Path, environment: Content) -> None:
    """DataError for a file of the data that is in no place where it may be; a network may be on the Hub."""
    begun = environment.get("directory")
    if begun is None or begun == os.getcwd():
        return  # reading it says what is wrong
    places = places_of(path, environment)
    for name in names_of(config | {"model": None, "teacher": None}):
        if not any(there(name, place) for place in places):
            raise DataError(
                f"{path}: {name} is neither in {begun}, where the run began, nor in {os.getcwd()}; put it"
                " there, or go to the directory that has it"
            )


def note(path: Path, home: Path) -> str:
    """Where the files of a run are read from, in a sentence; empty where that goes without saying."""
    return "" if home == Path.cwd() else f"{path}: its files are those in {home}, where it began"


def names_of(config: Content) -> list[str]:
    """Every relative name of a file or directory in the settings."""
    return [name for name in files_of(config) if is_relative(name)]


def files_of(config: Content) -> list[str]:
    """Every name of a file or directory in the settings, of a network too."""
    found: list[str] = []

    def keep(name: Any) -> Any:
        found.extend([name] if isinstance(name, str) else [])
        return name

    mapped(config, keep)
    return found


def is_relative(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and not name.startswith(ELSEWHERE) and not os.path.isabs(name)


def there(name: str, place: Path) -> bool:
    """Whether a directory has a file of this name, DIR:SPLIT included, or one that fits the pattern."""
    path = str(place / name)
    if os.path.exists(path) or os.path.exists(path.rpartition(":")[0]):
        return True
    return glob.has_magic(name) and next(glob.iglob(path, recursive=True), None) is not None


def mapped(config: Content, change: Change) -> Content:
    """The settings with every name of a file or directory in them changed."""
    config = _keys(config, partial(_keys, change=change, keys=SPLITS), ("task", "sequence"))
    config = _keys(
        config, partial(_keys, change=partial(_keys, change=change, keys=SPLITS), keys=("tasks",)), ("task",)
    )
    config = _keys(config, partial(_keys, change=change, keys=("name",)), ("model",))
    config = _keys(config, change, ("teacher",))
    texts = ("text",) if (config.get("source") or {}).get("kind") == "pretraining" else ()
    config = _keys(config, partial(_keys, change=change, keys=(*SPLITS, *texts)), ("source",))
    for group, more, part in (("compose", ("rows", "test"), "text"), ("pretrain", (), "task")):
        if isinstance(node := config.get(group), dict):
            node = _keys(_keys(node, change, more), partial(_keys, change=change, keys=SPLITS), (part,))
            config = config | {group: node}
    return config


def _keys(node: Any, change: Change, keys: Iterable[str]) -> Any:
    """A group of settings with the values of these keys changed, those in lists one by one."""
    if not isinstance(node, dict):
        return node
    return node | {key: _each(node[key], change) for key in keys if node.get(key) is not None}


def _each(value: Any, change: Change) -> Any:
    return [_each(each, change) for each in value] if isinstance(value, list) else change(value)


def source_beside(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """A source run that stands beside this one is stored as such, so that both may be moved together."""
    source = config.get("source") or {}
    if not source.get("run") or Path(source["run"]).resolve().parent != path.parent:
        return config
    return config | {"source": source | {"run": f"../{Path(source['run']).name}"}}


def source_found(config: dict[str, Any], path: Path) -> dict[str, Any]:
    source = config.get("source") or {}
    if not str(source.get("run", "")).startswith("../"):
        return config
    return config | {"source": source | {"run": str((path / source["run"]).resolve())}}
