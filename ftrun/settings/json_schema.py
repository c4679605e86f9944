"""A JSON schema of all settings, for editors: types of the dataclasses, comments and defaults of the YAML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from ftrun import CONF
from ftrun.settings.auto import AUTO
from ftrun.settings.earlier import Domain, Pretrain
from ftrun.settings.own import beside, importable
from ftrun.settings.read import STAND_INS
from ftrun.settings.resolve import hints_of, load_class, schedule_class, setting
from ftrun.settings.schema import ModelSettings, Settings, Train
from ftrun.settings.suggest import keys

Schema = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
NAMES = {
    int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null", list: "array",
    dict: "object",
}  # fmt: skip
ANY: Schema = {}
TEXT, GROUP, LIST = {"type": "string"}, {"type": "object"}, {"type": "array"}
LATER: Schema = {"type": "string", "pattern": r"\$\{"}  # an interpolation, which OmegaConf resolves
OWN: Schema = {"type": "string", "pattern": r"\."}  # a module of one's own
TOP = ("seed", "device", "tracker", "baselines", "scenario")


def schema(directory: str | None = None) -> Schema:
    """The schema of config.yaml, of an experiment and of a strategy's file; other groups in `definitions`.

    One's own options, in conf/ or the directory named, are in it. Raises ConfigError for one whose class is
    not there.
    """
    if directory:
        importable(["--config-dir", directory])
    places = [CONF, *filter(None, [Path(directory) if directory else beside()])]
    tasks, held = kinds(places), strategies(places)
    groups = {
        "task": closed(tasks),
        "model": closed(of_class(ModelSettings, CONF / "model" / "tiny_bert.yaml")),
        "train": closed(of_class(Train, CONF / "config.yaml", "train.")),
        "schedule": schedules(),
        "protect": closed({**held, "name": TEXT}),
        **before(tasks),
    }
    hints, comments = hints_of(Settings), keys(CONF / "config.yaml")
    top = {name: described(later(of_hint(hints[name])), comments[name]) for name in TOP}
    top |= {"sequence": described(ANY, comments["sequence"]), "strategy": names_of(places)}
    loose = {"defaults": LIST, "hydra": GROUP, "search": GROUP}
    nodes = {name: {"$ref": f"#/definitions/{name}"} for name in groups}
    head = {"$schema": DRAFT, "title": "Settings of ftrun", "definitions": groups}
    return head | closed({**loose, **held, **top, **nodes})


def kinds(places: list[Path]) -> Schema:
    """The settings of every kind of task, each of the types that any kind gives it."""
    found = {value_in(path, "kind"): path for path in files(places, "task") if "kind" in keys(path)}
    each = joined(of_class(load_class("tasks", kind, "task.kind"), path) for kind, path in found.items())
    kind = {"anyOf": [{"enum": [*found]}, OWN], "description": "the class that implements it"}
    return {"defaults": LIST, **each, "kind": kind}


def strategies(places: list[Path]) -> Schema:
    """The settings of every strategy, which stand at the top."""
    found = files(places, "strategy")
    return joined(of_class(load_class("strategies", value_in(path, "strategy")), path) for path in found)


def names_of(places: list[Path]) -> Schema:
    """Which strategy it is."""
    names = [path.stem for path in files(places, "strategy")]
    return {"anyOf": [{"enum": names}, OWN, LATER], "description": "how the network is fine-tuned"}


def schedules() -> Schema:
    found = files([CONF], "schedule")
    own = joined(of_class(schedule_class(path.stem), path) for path in found)
    return closed({**own, "name": {"enum": [path.stem for path in found]}})


def before(tasks: Schema) -> dict[str, Schema]:
    """What comes before a run or is a part of it: the groups source, compose and pretrain."""
    known = of_class(load_class("tasks", "pretraining"), CONF / "source" / "pretraining.yaml")
    source = {**joined([known, tasks]), "kind": TEXT, "run": TEXT, "name": TEXT}
    compose = of_class(Domain, CONF / "compose" / "domain.yaml")
    pretrain = of_class(Pretrain, CONF / "pretrain" / "mlm.yaml")
    both = {"defaults": LIST, "name": TEXT}
    return {
        "source": closed(source),
        "compose": closed({**compose, **both}),
        "pretrain": closed({**pretrain, **both}),
    }


def of_class(cls: type, path: Path, prefix: str = "") -> Schema:
    """The settings of a dataclass, with what a file of the class says of each behind `prefix`."""
    hints, told, found = hints_of(cls), keys(path), {}
    for field in fields(cls):
        if field.init:
            name = setting(field.name)
            own = of_hint(hints[field.name])
            if cls is Train and name in STAND_INS:
                own = {"anyOf": [own, {"const": AUTO}]}
            found[name] = described(later(own), told.get(prefix + name, ""))
    return found


def of_hint(hint: Any) -> Schema:
    """What `settings.checks.convert` takes for a type: a number for a text too."""
    if hint is Any:
        return ANY
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    plain = [get_origin(option) or option for option in options]
    types = [NAMES[option] for option in plain] + ["number"] * (str in plain and float not in plain)
    found: Schema = {"type": types[0] if len(types) == 1 else types}
    inner = [get_args(option)[0] for option in options if get_origin(option) is list]
    return found | ({"items": of_hint(inner[0])} if inner else {})


def later(own: Schema) -> Schema:
    """The same, or an interpolation."""
    if own == ANY or "string" in own.get("type", ""):
        return own
    return {"anyOf": [*own.get("anyOf", [own]), LATER]}


def described(own: Schema, told: str) -> Schema:
    """With the comment of a line of YAML, and its value as the default."""
    import yaml

    value, _, comment = told.partition(" # ")
    text = {"description": comment.strip()} if comment else {}
    if not value.strip():
        return own | text
    return own | text | {"default": yaml.safe_load(value)}


def joined(each: Iterable[Schema]) -> Schema:
    """The settings of several classes: one that several have is of the types of any."""
    found: dict[str, list[Schema]] = {}
    for settings in each:
        for name, own in settings.items():
            found.setdefault(name, []).append(own)
    return {name: any_of(owns) for name, owns in found.items()}


def any_of(owns: list[Schema]) -> Schema:
    """Each type once, told as the first is; without a default where these differ."""
    bare = [{key: part for key, part in own.items() if key not in ("description", "default")} for own in owns]
    each = [own for number, own in enumerate(bare) if own not in bare[:number]]
    alike = all(own.get("default") == owns[0].get("default") for own in owns)
    told = {key: owns[0][key] for key in ("description", *(["default"] if alike else [])) if key in owns[0]}
    return (each[0] if len(each) == 1 else ANY if ANY in each else {"anyOf": each}) | told


def closed(settings: Schema) -> Schema:
    """A group with these settings and no others."""
    return {"type": "object", "properties": settings, "additionalProperties": False}


def files(places: list[Path], group: str) -> list[Path]:
    return [path for place in places for path in sorted((place / group).glob("*.yaml"))]


def value_in(path: Path, name: str) -> str:
    """What a file of options says of one setting."""
    import yaml

    return str(yaml.safe_load(path.read_text(encoding="utf-8"))[name])
