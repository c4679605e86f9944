"""What the JSON files of a run directory hold: read, and checked for the types that their readers rely on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any

from ftrun.errors import UserError, shortened
from ftrun.runs.lines import read_lines
from ftrun.settings.checks import in_yaml

Content = dict[str, Any]
TEXT, NUMBER, WHOLE, COUNT = "a string", "a number", "a whole number", "a whole number from 0"
SWITCH, GROUP, LIST, SETTING = "true or false", "an object", "a list", "a number or auto"
KINDS: dict[str, Callable[[Any], bool]] = {
    TEXT: lambda value: isinstance(value, str),
    NUMBER: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    WHOLE: lambda value: isinstance(value, int) and not isinstance(value, bool),
    COUNT: lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    SWITCH: lambda value: isinstance(value, bool),
    GROUP: lambda value: isinstance(value, dict),
    LIST: lambda value: isinstance(value, list),
    SETTING: lambda value: value == "auto" or KINDS[NUMBER](value),
}
TYPES = {str: TEXT, int: NUMBER, float: NUMBER, bool: SWITCH, dict: GROUP, list: LIST}  # as JSON is read
SCORES = dict.fromkeys(("eval_", "test_", "train_"), NUMBER)
GAUGE = {"fitted!": SWITCH, "uniform_loss!": NUMBER, "share!": NUMBER}
SOURCE = {"name!": TEXT, "metric!": TEXT, "before!": {"": NUMBER}, "after!": {"": NUMBER}, "gauge": GAUGE}
LEAK = {"split!": TEXT, "other!": TEXT, "unit!": TEXT, "relation": TEXT, "rows!": COUNT, "of!": COUNT}
# file → what its keys hold: a kind, the one element of a list, or keys in turn. One that ends in ! is needed,
# one that ends in _ stands for all that begin so, "" for all others; a key that is not here nobody reads.
SHAPES: dict[str, Any] = {
    "result.json": {
        "metric": TEXT, "strategy": TEXT, "model": TEXT, "scenario": TEXT, "seed": WHOLE, "sequence": [TEXT],
        "steps": COUNT, "best_step": COUNT, "layers": COUNT, "trained_parameters": COUNT,
        "total_parameters": COUNT, "l2": NUMBER, "forgetting": NUMBER, "average": NUMBER,
        "rows": {"": COUNT}, "sources": [SOURCE], "drift": [{"": NUMBER}], "matrix": [[NUMBER]],
        "untrained": [NUMBER], "backward_transfer": NUMBER, "forward_transfer": NUMBER,
        "names": {"": TEXT}, **SCORES,
    },
    "cost.json": {
        "seconds": NUMBER, "cpu_seconds": NUMBER, "train_seconds": NUMBER, "tokens_per_second": NUMBER,
        "images_per_second": NUMBER, "memory_bytes": NUMBER, "device": TEXT,
    },
    "failure.json": {"message": TEXT, "exit_code": WHOLE},
    "data.json": {
        "fingerprint": TEXT, "leaks": [LEAK], "labels": {"": {"": COUNT}}, "baselines": {"": SCORES},
    },
    "pause.json": {"step!": COUNT, "of!": COUNT, "losses!": [NUMBER]},
    "details.json": {"": {"": {"": NUMBER}}},
    "environment.json": {
        "directory": TEXT, "run": TEXT, "device": TEXT, "network": TEXT, "versions": {"": TEXT},
        "changes": [GROUP],
    },
    "compose.json": {"runs!": [{"weight!": NUMBER}], "search": {"score!": NUMBER}},
    "adapter_config.json": {"base_model_name_or_path!": TEXT},
}  # fmt: skip
# of a line of predictions.jsonl: the kind of a value and of those in it, "" for any that all lines have
ANSWERS = {
    "row": (NUMBER, ""), "label": ("", ""), "answer": ("", ""), "probability": ("", NUMBER),
    "probabilities": ("", NUMBER), "slices": (GROUP, TEXT), "file": (TEXT, ""), "file_row": (NUMBER, ""),
    "text": ("", TEXT),
}  # fmt: skip
PLAIN = {int, float, NoneType}  # what a line mostly holds, and is then right
CURVES = {"step!": NUMBER, "": NUMBER}  # of a line of metrics.jsonl
TIMES = {"phase": TEXT, "step": NUMBER, "seconds": NUMBER, "cpu_seconds": NUMBER}


def read_object(path: Path) -> Content | None:
    """The object in a JSON file; None where there is no such file. UserError where it is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if wrong := fault(found, SHAPES.get(path.name, {}), ""):
        raise UserError(f"{path} is damaged: {wrong}")
    known: Content = found
    return known


def lines_of(path: Path, shape: Content) -> list[Content]:
    """The complete lines of a JSON-lines file; UserError where one has another shape."""
    lines, needed = read_lines(path), [name[:-1] for name in shape if name.endswith("!")]
    for number, line in enumerate(lines, 1):
        whole = all(line.get(name) is not None for name in needed)
        if not (whole and PLAIN.issuperset(map(type, line.values()))) and (wrong := fault(line, shape, "")):
            raise UserError(f"{path} is damaged: line {number}: {wrong}")
    return lines


def answers_of(path: Path, groups: Iterable[str] = ()) -> list[Content]:
    """The lines of a file of answers; UserError where one holds another kind of value than the others.

    Some may be `groups`, each with an answer.
    """
    lines = read_lines(path)
    wrong = uneven(lines) or next(
        (
            f"{name}: {odd}"
            for name in groups
            if (odd := uneven_group([line.get(name, {}) for line in lines]))
        ),
        "",
    )
    if wrong:
        raise UserError(f"{path} is damaged: {wrong}")
    return lines


def uneven(lines: list[Content]) -> str:
    """Which name has values of two kinds, or not of the one it should; empty where none does."""
    names = set().union(*lines)
    for name, (outer, inner) in ANSWERS.items():
        if name not in names:
            continue
        values = [line.get(name) for line in lines]
        types = {*map(type, values)}
        parts = [each for each in values if isinstance(each, (dict, list))] if types & {dict, list} else []
        within = chain.from_iterable(each.values() if isinstance(each, dict) else each for each in parts)
        for column, expected in ((types, outer), ({*map(type, within)}, inner)):
            kinds = sorted({TYPES[each] for each in column - {NoneType}})
            if len(kinds) > 1 or (expected and kinds not in ([], [expected])):
                return f"{name} is {' in one row, in another '.join(kinds)}"
    slices = {frozenset(line.get("slices", ())) for line in lines} if "slices" in names else set()
    return "the rows have not the same slices" if len(slices) > 1 else ""


def uneven_group(values: list[Any]) -> str:
    """The same of groups, which have an answer or are empty."""
    odd = next(
        (value for value in values if not isinstance(value, dict) or (value and "answer" not in value)), None
    )
    return uneven(values) if odd is None else f"{brief(odd)} is no answer"


def fault(value: Any, shape: Any, name: str) -> str:
    """What is wrong with a value that should have this shape; empty where nothing is.

    A number or a string may be null, which is what JSON has for one that is not finite or not known.
    """
    kind = GROUP if isinstance(shape, dict) else LIST if isinstance(shape, list) else shape
    if not KINDS[kind](value):
        return f"{name or 'its content'} is {brief(value)}, not {kind}"
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(shape, dict) and shape:
        needed = (key[:-1] for key in shape if key.endswith("!"))
        if missing := next((key for key in needed if value.get(key) is None), None):
            return f"{name}.{missing} is missing".lstrip(".")
        pairs = [(key, each, shape_of(key, shape)) for key, each in value.items()]
    elif isinstance(shape, list):
        pairs = [(str(number), each, shape[0]) for number, each in enumerate(value)]
    checks = (
        fault(each, own, f"{name}.{key}".lstrip("."))
        for key, each, own in pairs
        if own is not None and (each is not None or isinstance(own, dict | list))
    )
    return next(filter(None, checks), "")


def shape_of(key: str, shapes: Content) -> Any:
    """The shape of what a key holds: its own, that of its beginning, or that of all; None for none."""
    beginning = key[: key.find("_") + 1] or key
    return next((shapes[name] for name in (key, f"{key}!", beginning, "") if name in shapes), None)


def brief(value: Any) -> str:
    """A value as YAML writes it, shortened."""
    return shortened(in_yaml(value), 40)


def changes(before: Content, now: Content, group: str = "") -> list[str]:
    """Which values differ: train.lr 0.01 → 0.02."""
    found = []
    for name in dict.fromkeys([*before, *now]):
        was, is_now, full = before.get(name), now.get(name), f"{group}{name}"
        if isinstance(was, dict) and isinstance(is_now, dict):
            found += changes(was, is_now, f"{full}.")
        elif was != is_now:
            found.append(f"{full} {brief(was)} → {brief(is_now)}")
    return found
