"""Checks of single values: their type and their range."""

from __future__ import annotations

import math
import re
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from ftrun.errors import ConfigError, near, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LARGEST = 2**63 - 1  # whole number that arrays hold
LARGEST_FLOAT = 1e30  # far from where 32 bits end
LONGEST = 60  # characters of a value in a message
WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    list: "a list",
    dict: "a group of settings",
    NoneType: "null",
}

# what other programs call a choice -> its name here
MEANT = {
    "gpu": "cuda",
    "16": "fp16",
    "half": "fp16",
    "float16": "fp16",
    "bfloat16": "bf16",
    "32": "fp32",
    "float32": "fp32",
    "single": "fp32",
    "flash": "flash_attention_2",
}


def convert(name: str, value: Any, hint: Any) -> Any:
    """`value` converted to the type of its field without loss: 3 becomes the number 3.0 or the string "3"."""
    if hint is Any:
        return value
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for option in options:
        if type(value) is (get_origin(option) or option):
            return [convert(name, item, get_args(option)[0]) for item in value] if get_args(option) else value
    if type(value) is int and float in options:
        return float(value)
    if type(value) in (int, float) and str in options:
        return str(value)
    words = " or ".join(WORDS.get(get_origin(option) or option, str(option)) for option in options)
    raise ConfigError(f"{name} is {words}, not {in_yaml(value)}")


def in_yaml(value: Any) -> str:
    """A value as YAML writes it, strings in quotes; the beginning of a long one."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return shortened(text, LONGEST)


def found_in(settings: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    """Whether settings have a dotted key, and its value."""
    node: Any = settings
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            return False, None
        node = node[name]
    return True, node


def sound(name: str, value: Any) -> None:
    """Refuses, at any depth, what no setting can be: nan, infinity, numbers that no array holds, no UTF-8."""
    if isinstance(value, dict):
        for key, each in value.items():
            sound(f"{name}.{key}" if name else str(key), each)
    elif isinstance(value, list):
        for each in value:
            sound(name, each)
    elif isinstance(value, float):
        finite(name, value)
        if abs(value) > LARGEST_FLOAT:
            raise ConfigError(f"{name} is a number up to {LARGEST_FLOAT:g} in size, not {value:g}")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"{name} is a whole number of 63 bits at most, not {in_yaml(value)}")
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{name} is UTF-8, not {in_yaml(value)}") from None


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Refuses a single value in place of a group of settings (`train=5`)."""
    if not isinstance(value, dict):
        raise ConfigError(f"{name} is a group of settings ({name}.…), not {in_yaml(value)}")
    return value


def finite(name: str, value: float | None) -> None:
    """Refuses nan and infinity."""
    if value is not None and not math.isfinite(value):
        raise ConfigError(f"{name} is a finite number, not {value}")


def above(name: str, value: float | None, low: float) -> None:
    """Refuses values that are not greater than `low`; null passes."""
    finite(name, value)
    if value is not None and not value > low:
        raise ConfigError(f"{name} is above {low}, not {value}")


def at_least(name: str, value: float | None, low: float) -> None:
    """Refuses values below `low`; null passes."""
    finite(name, value)
    if value is not None and value < low:
        raise ConfigError(f"{name} is at least {low}, not {value}")


def auto_or(name: str, value: float | str) -> None:
    """Refuses a string other than "auto" in place of a number."""
    if isinstance(value, str) and value != "auto":
        raise ConfigError(f"{name} is auto or a number, not '{value}'{near(value, ['auto'])}")


def auto_or_switch(name: str, value: bool | str) -> None:
    """Refuses a string other than "auto" in place of true or false."""
    if isinstance(value, str) and value != "auto":
        raise ConfigError(f"{name} is auto, true or false, not '{value}'{near(value, ['auto'])}")


def one_of(name: str, value: str, possible: Sequence[str]) -> None:
    """Refuses a value outside a fixed set of choices."""
    if value not in possible:
        meant = MEANT.get(value.lower(), value.lower())
        found = f"; did you mean '{meant}'?" if meant in possible else near(value, possible)
        raise ConfigError(f"{name} is one of {', '.join(possible)}, not '{value}'{found}")


def every(name: str, value: str | int | float) -> None:
    """Refuses an interval other than "epoch", a number of optimizer steps or a share of the run below 1."""
    if isinstance(value, str):
        if value != "epoch":
            raise ConfigError(
                f"{name} is auto, epoch, a number of steps or a share of the run below 1, not '{value}'"
            )
        return
    above(name, value, 0)
    if value > 1 and value % 1:
        raise ConfigError(f"{name} is a whole number of steps or a share of the run below 1, not {value}")


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts "2" before "10", "2-lora" before "10-lora" and "-1" before "0"."""
    if re.fullmatch(r"[+-]?\d{1,300}", name):
        return [(0, int(name), "")]
    parts = re.findall(r"\d{1,300}|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def steps_of(value: float, total: int) -> int:
    """A number of optimizer steps; a value below 1 is a share of `total`."""
    return round(value * total) if value < 1 else int(value)
