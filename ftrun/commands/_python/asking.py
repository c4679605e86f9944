"""What is asked for from Python, as words of the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftrun import CONF
from ftrun.errors import ConfigError
from ftrun.runs.files import write_atomically
from ftrun.runs.typed import literal, setting

STRATEGY = "strategy"
SPLITS = ("train", "validation", "test")
OWN_ROWS = "classify"  # the task of a group that names rows and no option
FRAMES = Path("outputs/frames")  # where rows that are in memory are written, for the run and those after it


def words_of(words: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """The words, then the keywords as words; ConfigError for a value that no setting can have."""
    found = [*words]
    for word in found:
        if not isinstance(word, str):
            raise ConfigError(f"{word!r} is no setting; expected text such as 'strategy=lora'")
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += group(name, value)
        elif (CONF / name).is_dir() and value is not None:
            found.append(setting(name, str(value)))
        else:
            found.append(f"{name}={written(name, value)}")
    return found


def group(name: str, values: Mapping[str, Any]) -> list[str]:
    """Those of one group: its option first, then each setting below it."""
    chosen, found = values.get("name"), []
    is_group = (CONF / name).is_dir()
    if is_group and chosen is None and name == "task" and "train" in values:
        chosen = OWN_ROWS
    if is_group and chosen is not None and (CONF / name / f"{chosen}.yaml").is_file():
        found.append(setting(name, str(chosen)))
        values = {key: value for key, value in values.items() if key != "name"}
    prefix = "" if name == STRATEGY else f"{name}."  # a strategy's settings stand at the top
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += group(f"{name}.{key}", value)
        else:
            found.append(f"{prefix}{key}={written(f'{name}.{key}', value)}")
    return found


def said(words: Iterable[str], name: str) -> str | None:
    """The last value given for a setting."""
    values = [word.partition("=")[2] for word in words if word.partition("=")[0] == name]
    return values[-1] if values else None


def written(name: str, value: Any) -> str:
    """A value in Hydra's grammar; a table of rows is written to a file first, whose name it is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(written(name, each) for each in value) + "]"
    if isinstance(value, str | Path):
        return literal(str(value))
    if is_frame(value) and name.rpartition(".")[2] in (*SPLITS, "input"):
        return literal(str(frame_file(value)))
    raise ConfigError(
        f"{name}: {type(value).__name__} is no value of a setting; possible: text, numbers, True, False,"
        " None, lists and dicts of these, and a DataFrame for rows"
    )


def is_frame(value: Any) -> bool:
    """Whether a value is a table with columns, a DataFrame, and not one column of it."""
    return hasattr(value, "to_json") and hasattr(value, "columns")


def as_jsonl(frame: Any) -> str:
    """A DataFrame's rows, numbers with as many digits as pandas writes and times as people do."""
    text: str = frame.to_json(
        orient="records", lines=True, force_ascii=False, double_precision=15, date_format="iso"
    )
    return text


def frame_file(frame: Any) -> Path:
    """A DataFrame's rows as a jsonl file named by its content, in a directory that stays."""
    text = as_jsonl(frame)
    place = FRAMES / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, text)
    return place
