"""Classes by the name of their file, and instances of them from settings."""

from __future__ import annotations

import importlib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from ftrun import CONF
from ftrun.errors import ConfigError, near
from ftrun.settings.checks import convert, in_yaml
from ftrun.settings.suggest import meant

KINDS = {
    "strategies": "strategy",
    "tasks": "task",
}  # folder of the package -> the setting that names a file in it


hints_of = cache(get_type_hints)  # most of the time that it takes to check the settings of a run


def build(cls: type, node: dict[str, Any], prefix: str, owner: str) -> Any:
    """An instance of the dataclass `cls`, whose fields are the node's keys; `prefix` is the node's path."""
    names = {setting(field.name): field.name for field in fields(cls) if field.init}
    for key in node:
        if key not in names:
            tail = meant(prefix + str(key), {prefix + name for name in names}) or "; ftrun --help lists them"
            raise ConfigError(f"{owner or prefix[:-1]} has no setting '{prefix}{key}'{tail}")
    for name in names:
        if name not in node:
            raise ConfigError(f"{owner or prefix[:-1]} needs the setting '{prefix}{name}', which is missing")
    hints = hints_of(cls)
    try:
        return cls(**{own: convert(prefix + name, node[name], hints[own]) for name, own in names.items()})
    except ConfigError as error:
        complete = not owner or str(error).startswith(owner)
        raise ConfigError(str(error) if complete else f"{owner}: {error}") from None


def setting(field: str) -> str:
    """The setting of a field; the field `from_` is the setting `from`, a keyword in Python."""
    return field.removesuffix("_")


def load_class(folder: str, name: str, said: str = "") -> Any:
    """ "lora" is the class Lora of FOLDER/lora.py, "mypackage.norms" is Norms in the user's own module.

    `said` is the setting that names it, where that is not the group.
    """
    word = said or KINDS[folder]
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{word} is a name, {', '.join(options_of(folder))}, not {in_yaml(name)}")
    module_name = name if "." in name else f"ftrun.{folder}.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        if "." in name:
            raise ConfigError(
                f"{word}={name}: there is no module '{error.name}' on the Python path"
            ) from None
        found = options_of(folder)
        raise ConfigError(
            f"there is no {word} '{name}'; possible: {', '.join(found)}{near(name, found)}"
        ) from None
    cls = getattr(module, camel(name), None)
    if not isinstance(cls, type):
        raise ConfigError(f"{word}={name}: {module.__file__} has no class {camel(name)}")
    return cls


def options_of(folder: str) -> list[str]:
    """The names of the classes in a folder that have options of their own."""
    here = {path.stem for path in (Path(__file__).parents[1] / folder).iterdir()}
    return sorted(path.stem for path in (CONF / KINDS[folder]).glob("*.yaml") if path.stem in here)


def holds(strategy: str) -> bool:
    """Whether a strategy protects earlier knowledge, as its class declares."""
    return bool(load_class("strategies", strategy).holds())


def schedule_class(name: str) -> type:
    """The schedule of a name: "slanted_triangular" is SlantedTriangular in schedules.py."""
    schedules = importlib.import_module("ftrun.settings.schedules")
    found = [path.stem for path in sorted((CONF / "schedule").glob("*.yaml"))]
    cls = getattr(schedules, camel(name), None)
    if not isinstance(cls, type):
        raise ConfigError(
            f"schedule.name={name}: there is no schedule '{name}'; possible: {', '.join(found)}"
            f"{near(name, found)}"
        )
    return cls


def camel(name: str) -> str:
    """The class name that belongs to a setting: mypackage.linear_probe -> LinearProbe."""
    return "".join(part.capitalize() for part in name.split(".")[-1].split("_"))
