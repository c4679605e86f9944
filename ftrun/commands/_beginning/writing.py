"""An experiment of one's own as YAML, with the comments that ftrun's own files have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftrun import CONF
from ftrun.runs.files import write_atomically
from ftrun.runs.written import to_yaml
from ftrun.settings.json_schema import schema
from ftrun.settings.suggest import keys

LATER = ("max_length", "block", "augment", "subset")  # written after what was found, as they are
MODELS = {"image": "resnet_small", "lm": "gpt2_small_random"}  # that come with ftrun; tiny_bert for others
FITTED = {"qa": {"max_length": 128}}  # tiny_bert's positions, where the kind has longer texts
ABOUT = {
    "task": "the kind of task; ftrun --help task={} has all of its settings",
    "model": "comes with ftrun; others: ftrun --help model, or model.name=DIRECTORY or a name on the Hub",
    "strategy": "how the network is fine-tuned: ftrun --help strategy",
}
SCHEMA = "ftrun.schema.json"  # in the directory of one's own options
MODELINE = f"yaml-language-server: $schema=../{SCHEMA}"  # by which editors know it
WIDTH = 110


def written(
    about: str, commands: list[str], options: dict[str, str], task: dict[str, Any], others: dict[str, Any]
) -> str:
    """The text of conf/experiment/NAME.yaml.

    `about` says what it is for, `commands` how it is used; `options` are the chosen ones by group, `task` the
    settings of its task by name, `others` settings by dotted name.
    """
    head = ["# @package _global_", *(f"# {line}" for line in (about, *commands, MODELINE))]
    chosen = [
        (f"  - override /{group}: {value}", ABOUT.get(group, "").format(value))
        for group, value in options.items()
    ]
    told = comments(options["task"])
    own = [(f"  {name}: {in_flow(value)}", told.get(name, "")) for name, value in task.items()]
    more = [(line, "") for line in to_yaml(nested(others)).splitlines()] if others else []
    parts = [head, ["defaults:", *aligned(chosen)], ["", "task:", *aligned(own)]]
    if more:
        parts.append(["", *aligned(more)])
    else:
        parts.append(
            ["", "# train: {epochs: 3, lr: 1e-4}  # both are chosen where not set: ftrun --help train"]
        )
    return "\n".join(line for part in parts for line in part) + "\n"


def write_schema(directory: str) -> None:
    """Beside one's own options, the schema by which editors complete and check them; made anew each time."""
    text = json.dumps(schema(directory), indent=1, ensure_ascii=False) + "\n"
    write_atomically(Path(directory) / SCHEMA, text)


def comments(kind: str) -> dict[str, str]:
    """What ftrun's file of a kind says behind each setting."""
    lines = keys(CONF / "task" / f"{kind}.yaml")
    return {name: rest.partition(" # ")[2].strip() for name, rest in lines.items()}


def aligned(lines: Iterable[tuple[str, str]]) -> list[str]:
    """Lines with their comments below each other, where there is room."""
    found = list(lines)
    width = max((len(line) for line, _ in found if len(line) < WIDTH // 3), default=0)
    return [f"{line:<{width}}  # {comment}" if comment else line for line, comment in found]


def in_flow(value: Any) -> str:
    """A value on one line, as OmegaConf reads it back."""
    if isinstance(value, list):
        return f"[{', '.join(json.dumps(literal(each), ensure_ascii=False) for each in value)}]"
    return to_yaml({"value": literal(value)}).removeprefix("value:").strip()


def literal(value: Any) -> Any:
    """A text that OmegaConf takes for no interpolation."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Settings by their dotted names as groups of settings."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        place = found
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = literal(value)
    return found
