"""Settings that are younger than a run, at the values of the YAML that comes with ftrun.

With them an old run can be asked, scored, started from and gone on with.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ftrun import CONF

# node → what names it
OPTIONAL = {"compose": "name", "pretrain": "name", "protect": "name", "source": "kind"}


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration with every setting that its nodes lack; what is no mapping stays as it is."""
    top = preset("config")
    flat = preset("strategy", str(config.get("strategy"))) | top  # a strategy's stand beside the fixed ones
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
    """A node with what it lacks of the preset it is named after."""
    name = str(node.get(key)) if isinstance(node, dict) else ""
    if group == "source" and name not in ("none", "run", "pretraining"):
        group = "task"  # source=TASK
    return filled(node, preset(group, name))


def filled(node: Any, values: dict[str, Any]) -> Any:
    """A node with the values that it lacks, but for those that have to be given."""
    given = {name: value for name, value in values.items() if name != "defaults" and value != "???"}
    return given | node if isinstance(node, dict) else node


@cache
def preset(group: str, name: str | None = None) -> dict[str, Any]:
    """A YAML of ftrun's own; empty where there is none of that name, as for a strategy of the user's."""
    import yaml

    path = CONF / f"{group}.yaml" if name is None else CONF / group / f"{name}.yaml"
    if not path.is_file():
        return {}
    return dict(yaml.safe_load(path.read_bytes()) or {})
