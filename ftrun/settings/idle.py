"""Settings that were set and change nothing, since another one is not what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from ftrun import CONF
from ftrun.settings.checks import found_in, in_yaml


@dataclass(frozen=True)
class Part:
    """A setting that acts only where another one has one of some values; its default stands in `file`."""

    name: str
    file: str
    whole: str
    values: tuple[Any, ...]


PARTS = (
    Part("train.momentum", "config.yaml", "train.optimizer", ("sgd", "lars")),
    Part("train.ema_decay", "config.yaml", "train.average", ("ema",)),
    Part("ratio", "strategy/lora.yaml", "variant", ("lora_plus",)),
    Part("gamma", "strategy/ewc.yaml", "online", (True,)),
    Part("task.stride", "task/classify.yaml", "task.long", ("windows",)),
)


def idle(raw: Mapping[str, Any]) -> list[str]:
    """A line for each setting of a resolved configuration that was set and has no effect."""
    found = []
    for part in PARTS:
        (_, value), (_, whole) = found_in(raw, part.name), found_in(raw, part.whole)
        if value is None or whole is None or whole in part.values or value == default(part):
            continue
        possible = ", ".join(plain(part.whole, each) for each in part.values)
        beside = plain(part.whole, whole)
        found.append(f"{plain(part.name, value)}: without effect beside {beside}; possible: {possible}")
    return found


def plain(name: str, value: Any) -> str:
    return f"{name}={value if isinstance(value, str) else in_yaml(value)}"


def default(part: Part) -> Any:
    """What the setting is where nobody sets it."""
    name = part.name if part.file == "config.yaml" else part.name.rpartition(".")[2]
    return found_in(in_file(part.file), name)[1]


@cache  # reading YAML takes as long as some steps of a small network
def in_file(name: str) -> Any:
    return yaml.safe_load((CONF / name).read_text(encoding="utf-8"))
