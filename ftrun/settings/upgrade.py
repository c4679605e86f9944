"""Settings that were added after a run was made, at the values of ftrun's own YAML.

With them an old run can be evaluated, used for predictions or as a source, and continued.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ftrun import CONF
from ftrun.settings.suggest import RANGES

# node → the setting that names its option
OPTIONAL = {"compose": "name", "pretrain": "name", "protect": "name", "source": "kind"}

# strategy → values of its settings that runs had before the setting was there, where the YAML has another
FORMER = {"linear_probe": {"solver": "adamw"}}


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration with the settings that its nodes lack; other values stay as they are."""
    top = preset("config")
    strategy = str(config.get("strategy"))  # whose settings are beside the fixed ones
    flat = preset("strategy", strategy) | FORMER.get(strategy, {}) | top
    names = {name: value for name, value in flat.items() if name not in ("train", "model", "hydra")}
    whole = filled(config, names | {name: {key: "none"} for name, key in OPTIONAL.items()})
    whole["train"] = filled(whole.get("train"), top["train"])
    whole["model"] = filled(whole.get("model"), preset("model", "tiny_bert"))
    whole["schedule"] = by_name(whole.get("schedule"), "schedule", "name")
    whole["task"] = by_name(whole.get("task"), "task", "kind")
    for name, key in OPTIONAL.items():
        whole[name] = by_name(whole[name], name, key)
    for name, part in (("pretrain", "task"), ("compose", "text")):
        if isinstance(whole[name], dict) and part in whole[name]:
            whole[name] = {**whole[name], part: by_name(whole[name][part], "task", "kind")}
    return whole


def by_name(node: Any, group: str, key: str) -> Any:
    """A node with the settings that it lacks of the preset that it is named after."""
    name = str(node.get(key)) if isinstance(node, dict) else ""
    if group == "source" and name not in ("none", "run", "pretraining"):
        group = "task"  # source=TASK
    return filled(node, preset(group, name))


def filled(node: Any, values: dict[str, Any]) -> Any:
    """A node with the values that it lacks, after its own, except those that a user must set."""
    if not isinstance(node, dict):
        return node
    wanted = {name: value for name, value in values.items() if name != "defaults" and value != "???"}
    return node | {name: value for name, value in wanted.items() if name not in node}


@cache
def preset(group: str, name: str | None = None) -> dict[str, Any]:
    """The settings in one of ftrun's own YAML files; empty where there is none, as for a user's strategy."""
    import yaml

    path = CONF / f"{group}.yaml" if name is None else CONF / group / f"{name}.yaml"
    if not path.is_file():
        return {}
    found = yaml.safe_load(path.read_bytes()) or {}
    return {key: value for key, value in found.items() if key != RANGES}
