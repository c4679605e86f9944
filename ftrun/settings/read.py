"""Composed YAML to typed settings; every invalid setting is a ConfigError."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftrun import CONF
from ftrun.errors import ConfigError, counted
from ftrun.settings.auto import AUTO
from ftrun.settings.checks import auto_or, convert, mapping, one_of, sound
from ftrun.settings.earlier import Domain, Pretrain, Source
from ftrun.settings.protocols import Strategy
from ftrun.settings.resolve import build, holds, load_class, schedule_class
from ftrun.settings.schema import ModelSettings, Settings, Train

STAND_INS = {
    "lr": 1e-4, "epochs": 3.0, "batch_size": 32, "eval_every": "epoch", "checkpoint_every": "epoch",
    "patience": None,
}  # fmt: skip
NODES = ("task", "model", "schedule", "train", "compose", "protect", "source", "pretrain")
FIXED = (*NODES, "seed", "device", "tracker", "baselines", "strategy", "scenario", "sequence")


def read(raw: dict[str, Any]) -> Settings:
    """Settings from a composed, resolved configuration; every invalid setting is a ConfigError.

    The top level holds the fixed settings and, beside them, those of the chosen strategy.
    """
    for name in FIXED:
        if name not in raw:
            raise ConfigError(f"the configuration has no '{name}'")
    sound("", raw)
    nodes = {name: mapping(name, raw[name]) for name in NODES}
    strategy_name = convert("strategy", raw["strategy"], str)
    own = {key: value for key, value in raw.items() if key not in FIXED}
    strategy = build(load_class("strategies", strategy_name), own, "", f"strategy={strategy_name}")
    protect = protection(nodes["protect"], strategy_name)
    if (protect or strategy).needs_source and nodes["source"].get("kind") == "none":
        raw = raw | {"source": pretraining()}
        nodes["source"] = raw["source"]
    task, schedule = dict(nodes["task"]), dict(nodes["schedule"])
    kind = convert("task.kind", task.pop("kind", None), str)
    task_class = load_class("tasks", kind, "task.kind")
    for name in task_class.ignored_settings:
        task.pop(name, None)
    auto = frozenset(name for name in STAND_INS if nodes["train"].get(name) == AUTO)
    curve = convert("schedule.name", schedule.pop("name", None), str)
    return Settings(
        seed=convert("seed", raw["seed"], int),
        device=convert("device", raw["device"], str),
        tracker=convert("tracker", raw["tracker"], str),
        baselines=convert("baselines", raw["baselines"], bool),
        strategy=strategy,
        task=build(task_class, task, "task.", f"task={task.get('name')}"),
        schedule=build(schedule_class(curve), schedule, "schedule.", f"schedule={curve}"),
        model=build(ModelSettings, nodes["model"], "model.", ""),
        train=build(Train, numbers(nodes["train"], auto), "train.", ""),
        protect=protect,
        source=source_of(nodes["source"]),
        scenario=convert("scenario", raw["scenario"], str),
        sequence=sequence_of(raw["sequence"]),
        compose=domain_of(nodes["compose"]),
        pretrain=pretrain_of(nodes["pretrain"]),
        strategy_name=strategy_name,
        raw=raw,
        auto=auto,
    )


def checked(raw: dict[str, Any]) -> Settings:
    """As `read`; so are the settings of the runs that come before this one or are parts of it."""
    settings = read(raw)
    for name, each in inner(settings):
        try:
            read(each)
        except ConfigError as error:
            group = name.partition("=")[0]
            raise ConfigError(f"{name}: {error} (its settings begin with {group}.)") from None
    return settings


def inner(settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings of runs that come before or are parts, by the option that has them made."""
    raw = settings.raw
    if settings.pretrain is not None:
        yield f"pretrain={raw['pretrain']['name']}", pretraining_of(raw)
    if (domain := settings.compose) is not None:
        train = raw["train"] | {"rates": None} | domain.train | {"metric": None}
        yield "compose=domain", raw | {"compose": {"name": "none"}, "task": domain.text, "train": train}


def pretraining_of(raw: dict[str, Any]) -> dict[str, Any]:
    """The pre-training as an experiment of its own: every weight, from random ones, with its own head."""
    node = raw["pretrain"]
    own = {
        "task": node["task"],
        "train": raw["train"] | {"rates": None} | node["train"] | {"metric": None, "frozen_dtype": "fp32"},
        "model": raw["model"] | {"init": "random", "pooling": "head"},
        "strategy": "full",
        "seed": node["seed"],
    }
    alone = {"pretrain": {"name": "none"}, "scenario": "task", "sequence": None, **NOTHING_BEFORE}
    return {name: raw[name] for name in FIXED} | alone | own


def numbers(node: dict[str, Any], auto: frozenset[str]) -> dict[str, Any]:
    """The settings of training, with stand-ins for what is `auto` until rows and network are known."""
    for name in ("lr", "epochs", "batch_size", "patience"):
        auto_or(f"train.{name}", node.get(name, AUTO))
    values = node | {name: STAND_INS[name] for name in auto}
    if "batch_size" in auto and isinstance(values.get("micro_batch"), int):
        values["batch_size"] = max(values["batch_size"], values["micro_batch"])
    return values


def protection(node: dict[str, Any], strategy: str) -> Strategy | None:
    """The strategy named by protect=, with its own settings; None for none."""
    values = dict(node)
    name = convert("protect.name", values.pop("name", None), str)
    if name == "none":
        return None
    if holds(strategy):
        raise ConfigError(
            f"strategy={strategy} already protects earlier knowledge; combine protect={name} with another"
            " strategy, such as strategy=full"
        )
    return build(load_class("strategies", name, "protect.name"), values, "protect.", f"protect={name}")


def source_of(node: dict[str, Any]) -> Source | None:
    values = dict(node)
    kind = convert("source.kind", values.pop("kind", None), str)
    if kind == "none":
        return None
    if kind == "run":
        return Source("run", convert("source.run", values.get("run"), str), {}, None)
    if kind == "pretraining":
        task = build(load_class("tasks", "pretraining"), values, "source.", "source=pretraining")
        return Source("pretraining", "", values, task)
    task = build(load_class("tasks", kind, "source.kind"), values, "source.", f"source={values.get('name')}")
    if task.spec(None).projection is not None:  # contrastive learning
        raise ConfigError(
            f"source={task.name} makes no predictions, so forgetting cannot be measured; run it first and set"
            " model.name=RUN"
        )
    return Source("task", "", dict(node), None)


def domain_of(node: dict[str, Any]) -> Domain | None:
    values = dict(node)
    name = convert("compose.name", values.pop("name", None), str)
    one_of("compose.name", name, ["none", "domain"])
    return None if name == "none" else build(Domain, values, "compose.", "compose=domain")


def pretrain_of(node: dict[str, Any]) -> Pretrain | None:
    values = dict(node)
    name = convert("pretrain.name", values.pop("name", None), str)
    return None if name == "none" else build(Pretrain, values, "pretrain.", f"pretrain={name}")


def sequence_of(value: Any) -> list[Any] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) < 2:
        actual = f"has {counted(len(value), 'task')}" if isinstance(value, list) else f"is {value}"
        raise ConfigError(
            f"sequence {actual}; it needs at least two: names of tasks, [a,b], or settings of tasks,"
            " [{train: a.csv},…]"
        )
    return value


def named_apart(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks of a sequence with names of their own: of equal ones each gets its number."""
    names = [node.get("name") for node in nodes]
    return [
        node | ({"name": f"{node.get('name')}{number}"} if names.count(node.get("name")) > 1 else {})
        for number, node in enumerate(nodes, 1)
    ]


def pretraining() -> dict[str, Any]:
    """The settings of source=pretraining, for strategies that need a source where none is set."""
    import yaml

    return yaml.safe_load((CONF / "source" / "pretraining.yaml").read_text(encoding="utf-8"))


def derived(settings: Settings, **changes: Any) -> Settings:
    """The settings with some top-level nodes replaced, read again."""
    return read(settings.raw | changes)


NOTHING_BEFORE = {"source": {"kind": "none"}, "protect": {"name": "none"}}


def without_hold(raw: dict[str, Any]) -> dict[str, Any]:
    """The same training without source and protection; a strategy that protects becomes strategy=full."""
    if holds(raw["strategy"]):
        raw = {name: raw[name] for name in FIXED} | {"strategy": "full"}
    return raw | NOTHING_BEFORE
