"""The settings in a run's config.yaml: written with their hash, read, compared and combined."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ftrun.errors import ConfigError, UserError
from ftrun.runs.content import Content, brief, read_object
from ftrun.runs.written import to_yaml as as_text

NODES = ("task", "model", "train", "source", "schedule", "pretrain", "compose", "protect")
SAFE, DEEPEST = 20_000, 50  # bytes of a text that cannot be nested too deep; how deep settings may be
STAMP = "# ftrun resume goes on only with these settings, whose sha256 is "


def to_yaml(config: Content) -> str:
    """The settings as text, with their hash in the last line."""
    text = as_text(config)
    return f"{text}{STAMP}{digest(parsed(text))}\n"


def from_yaml(path: Path) -> Content:
    """The settings in a file; ConfigError where it is damaged."""
    return checked(path, text_of(path))


def text_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def checked(path: Path, text: bytes) -> Content:
    """The settings in the text of a file."""
    import yaml

    try:
        refuse_depth(text)
        config = parsed(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is damaged: it holds no settings")
    if wrong := unfit(config):
        raise ConfigError(f"{path} is damaged: {wrong}")
    for name in NODES:
        if not isinstance(config.get(name), dict | None):
            raise ConfigError(f"{path} is damaged: {name} is {brief(config[name])}, not a group of settings")
    return config


def parsed(text: bytes | str) -> Any:
    import yaml  # ten times as fast as OmegaConf.load, for a report of many runs

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def refuse_depth(text: bytes) -> None:
    """ValueError for what is nested so deep that libyaml, which builds it by recursion, runs out of stack."""
    import yaml

    if len(text) <= SAFE:
        return
    depth = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")


def unfit(config: Content) -> str:
    """Why settings are none that ftrun writes; empty where they may be.

    An alias has one value stand in several places: a few, nested, are more values than there is memory.
    """
    seen: set[int] = set()
    waiting: list[tuple[Any, int]] = [(config, 0)]
    while waiting:
        value, depth = waiting.pop()
        if id(value) in seen:
            return "it has a YAML alias, which ftrun never writes"
        if depth > DEEPEST:
            return f"it is nested more than {DEEPEST} deep"
        seen.add(id(value))
        inner = value.values() if isinstance(value, dict) else value
        waiting += [(each, depth + 1) for each in inner if isinstance(each, dict | list)]
    return ""


def digest(value: Any) -> str:
    """A hash of settings by their values, whatever the order of their names."""
    return hashlib.sha256(repr(ordered(value)).encode()).hexdigest()


def ordered(value: Any) -> Any:
    """The same values with the names of every group in order."""
    if isinstance(value, dict):
        return sorted(((str(name), ordered(each)) for name, each in value.items()), key=lambda pair: pair[0])
    return [ordered(each) for each in value] if isinstance(value, list) else value


def as_written(path: Path) -> tuple[Content, bool]:
    """The settings in a file, and whether they have the hash of its last line; older runs do not have one."""
    text = text_of(path)
    config = checked(path, text)
    last = text.rstrip().rpartition(b"\n")[2].decode(errors="replace")
    return config, not last.startswith(STAMP) or last.removeprefix(STAMP) == digest(config)


def trained_with(checkpoint: Path) -> Content:
    """The settings that a checkpoint was made with; empty where there is none, or it is damaged."""
    try:
        found = (read_object(checkpoint / "state.json") or {}).get("settings")
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


def merged(config: Content, other: Content) -> Content:
    """The config with the values of another, group by group."""
    found = dict(config)
    for name, value in other.items():
        own = config.get(name, {})
        found[name] = merged(own, value) if isinstance(own, dict) and isinstance(value, dict) else value
    return found


def common(config: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The config's own values for what another has."""
    return {
        name: common(config[name], value) if isinstance(value, dict) else config[name]
        for name, value in other.items()
    }
