"""Composed YAML to typed settings.

YAML owns the values, the dataclasses own types and ranges and have no defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftrun import CONF
from ftrun.errors import ConfigError, near
from ftrun.settings.checks import above, at_least, convert, every, finite, mapping, one_of
from ftrun.settings.resolve import build, load_class, schedule_class

NODES = ("task", "model", "schedule", "train", "compose", "protect", "source")
FIXED = (*NODES, "pretrain", "seed", "device", "tracker", "strategy", "scenario", "sequence")


@dataclass
class Train:
    """Everything about the loop; the same for every task and strategy."""

    optimizer: str
    lr: float
    momentum: float  # of sgd and lars
    batch_size: int
    micro_batch: int | None
    epochs: float
    max_steps: int | None
    warmup: float  # share of all steps below 1, else steps
    weight_decay: float
    clip: float | None
    layer_decay: float
    precision: str
    sampling: str
    eval_every: str | int | float  # "epoch", optimizer steps, or a share of the run below 1
    patience: int | None
    metric: str | None
    checkpoint_every: str | int | float
    deterministic: bool

    def __post_init__(self) -> None:
        for name in ("lr", "epochs"):
            above("train." + name, getattr(self, name), 0)
        for name in ("batch_size", "micro_batch", "max_steps", "patience"):
            at_least("train." + name, getattr(self, name), 1)
        for name in ("warmup", "weight_decay"):
            at_least("train." + name, getattr(self, name), 0)
        above("train.clip", self.clip, 0)
        above("train.layer_decay", self.layer_decay, 0)
        if self.layer_decay > 1:
            raise ConfigError(
                f"train.layer_decay is at most 1 (1 = the same rate everywhere), not {self.layer_decay}"
            )
        if self.warmup >= 1 and self.warmup % 1:
            raise ConfigError(
                f"train.warmup is a share below 1 or a whole number of steps, not {self.warmup}"
            )
        one_of("train.optimizer", self.optimizer, ["adamw", "sgd", "lars"])
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"train.momentum is at least 0 and below 1, not {self.momentum}")
        one_of("train.sampling", self.sampling, ["auto", "group_by_length", "random"])
        one_of("train.precision", self.precision, ["auto", "fp32", "bf16", "fp16"])
        every("train.eval_every", self.eval_every)
        every("train.checkpoint_every", self.checkpoint_every)
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ConfigError(
                f"train.micro_batch={self.micro_batch} is larger than train.batch_size={self.batch_size}; "
                "it is the part of a batch that fits in memory"
            )


@dataclass
class ModelSettings:
    """Which network, and how its weights and its sentence vector are obtained."""

    name: str
    init: str
    pooling: str
    revision: str | None
    trust_remote_code: bool
    layers: int | None
    width: int | None
    heads: int | None

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads"):
            at_least("model." + name, getattr(self, name), 1)
            if getattr(self, name) is not None and self.init == "pretrained":
                raise ConfigError(
                    f"model.{name}={getattr(self, name)} does not go with pretrained weights, which have the"
                    " checkpoint's shape; possible: model.init=random"
                )
        if not self.name:
            raise ConfigError("model.name is empty; it is embedded:NAME, a directory or a name on the Hub")
        one_of("model.init", self.init, ["pretrained", "random"])
        one_of("model.pooling", self.pooling, ["head", "cls", "mean"])


@dataclass
class Source:
    """What the network knew before: its pretraining, a finished run, or a task to train first."""

    kind: str  # pretraining | run | task
    run: str
    node: dict[str, Any]

    def task(self) -> Any:
        """The pretraining as a task."""
        return build(load_class("tasks", "pretraining"), self.node, "source.", "source=pretraining")


@dataclass
class Domain:
    """A domain's text, what a second LoRA learns, and labelled rows of it."""

    text: Any  # the task of its language, as a node
    rows: str | list[str] | None
    test: str | list[str] | None
    columns: list[str] | None
    weights: list[float]
    train: Any  # settings of train that differ for the text

    def __post_init__(self) -> None:
        mapping("compose.text", self.text)
        mapping("compose.train", self.train)
        if self.rows is None:
            raise ConfigError("compose.rows is not set: give labelled rows of the domain, compose.rows=FILE")
        if len(self.weights) != 2:
            raise ConfigError(
                f"compose.weights is one for the task and one for the domain, not {self.weights}"
            )
        for weight in self.weights:
            finite("compose.weights", weight)


@dataclass
class Settings:
    """One experiment, checked; `raw` is the plain dict it was read from and can be read from again."""

    seed: int
    device: str
    tracker: str
    task: Any
    strategy: Any
    schedule: Any
    model: ModelSettings
    train: Train
    protect: Any  # a strategy whose hold is used with another one's way to train, or None
    source: Source | None
    scenario: str
    sequence: list[Any] | None
    compose: Domain | None
    strategy_name: str
    raw: dict[str, Any]

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        one_of("scenario", self.scenario, ["task", "domain", "class"])
        one_of("tracker", self.tracker, ["none", "tensorboard", "wandb", "mlflow"])
        if not (self.device.startswith("cuda:") and self.device[5:].isdigit()):
            one_of("device", self.device, ["auto", "cpu", "cuda"])
        if self.device == "cpu" and self.train.precision == "fp16":
            raise ConfigError("train.precision=fp16 needs a GPU; with device=cpu it is auto, fp32 or bf16")
        self.check_metric()
        self.task.under(self.seed, self.train)
        if self.scenario != "task" and not self.task.shares_head:
            raise ConfigError(
                f"scenario={self.scenario} shares one head over labels, and task={self.task.name} has none;"
                " possible: scenario=task"
            )
        if self.train.optimizer == "lars" and getattr(self.guard, "apply", None) == "proximal":
            raise ConfigError(
                "train.optimizer=lars takes a step of its own length for each weight, and apply=proximal"
                " pulls by the learning rate; possible: apply=loss, or train.optimizer=sgd"
            )
        if self.strategy.needs_new_head and not self.task.new_head:
            raise ConfigError(
                f"strategy={self.strategy_name} trains a new head, and task={self.task.name} has none: it"
                " trains the network itself; possible: strategy=full, lora, freeze, gradual_unfreeze"
            )
        if getattr(self.task, "tokenizer", None) == "train" and self.model.init != "random":
            raise ConfigError(
                "task.tokenizer=train makes other tokens than the checkpoint's weights know; possible:"
                " model.init=random"
            )

    @property
    def guard(self) -> Any:
        """The strategy that holds the network to what it knew."""
        return self.protect or self.strategy

    def check_metric(self) -> None:
        """Refuses a train.metric that the task does not compute."""
        possible = [f"eval_{name}" for name in self.task.metrics]
        if self.train.metric is not None and self.train.metric not in possible:
            raise ConfigError(
                f"train.metric: task={self.raw['task'].get('name')} has no '{self.train.metric}', "
                f"it has {', '.join(possible)}{near(self.train.metric, possible)}"
            )


def read(raw: dict[str, Any]) -> Settings:
    """Settings from a composed, resolved configuration; whatever is wrong in it is a ConfigError.

    Top level is the fixed settings and, flat beside them, those of the chosen strategy.
    """
    for name in FIXED:
        if name not in raw:
            raise ConfigError(f"the configuration has no '{name}'")
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
    task_class = load_class("tasks", kind)
    for name in task_class.passed_over:
        task.pop(name, None)
    curve = convert("schedule.name", schedule.pop("name", None), str)
    return Settings(
        seed=convert("seed", raw["seed"], int),
        device=convert("device", raw["device"], str),
        tracker=convert("tracker", raw["tracker"], str),
        strategy=strategy,
        task=build(task_class, task, "task.", f"task={task.get('name')}"),
        schedule=build(schedule_class(curve), schedule, "schedule.", f"schedule={curve}"),
        model=build(ModelSettings, nodes["model"], "model.", ""),
        train=build(Train, nodes["train"], "train.", ""),
        protect=protect,
        source=source_of(nodes["source"]),
        scenario=convert("scenario", raw["scenario"], str),
        sequence=sequence_of(raw["sequence"]),
        compose=domain_of(nodes["compose"]),
        strategy_name=strategy_name,
        raw=raw,
    )


def protection(node: dict[str, Any], strategy: str) -> Any:
    """The strategy named by protect=, with its own settings; None for none."""
    values = dict(node)
    name = convert("protect.name", values.pop("name", None), str)
    if name == "none":
        return None
    if (CONF / f"protect/{strategy}.yaml").is_file():
        raise ConfigError(
            f"strategy={strategy} holds the network already; protect={name} goes with another strategy,"
            " such as strategy=full"
        )
    return build(load_class("strategies", name), values, "protect.", f"protect={name}")


def source_of(node: dict[str, Any]) -> Source | None:
    values = dict(node)
    kind = convert("source.kind", values.pop("kind", None), str)
    if kind == "none":
        return None
    if kind == "run":
        return Source("run", convert("source.run", values.get("run"), str), {})
    if kind == "pretraining":
        source = Source("pretraining", "", values)
        source.task()  # refuses what is wrong in it
        return source
    task = build(load_class("tasks", kind), values, "source.", f"source={values.get('name')}")
    if task.pretrains:
        raise ConfigError(
            f"source={task.name} answers nothing that could be forgotten; run it first, and take"
            " model.name=RUN"
        )
    return Source("task", "", dict(node))


def domain_of(node: dict[str, Any]) -> Domain | None:
    values = dict(node)
    name = convert("compose.name", values.pop("name", None), str)
    one_of("compose.name", name, ["none", "domain"])
    return None if name == "none" else build(Domain, values, "compose.", "compose=domain")


def sequence_of(value: Any) -> list[Any] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) < 2:
        given = f"has {len(value)} task" if isinstance(value, list) else f"is {value}"
        raise ConfigError(
            f"sequence {given}: at least two tasks, names [a,b] or settings over task [{{train: a.csv}},…]"
        )
    return value


def pretraining() -> dict[str, Any]:
    """The settings of source=pretraining, for strategies that need a source and were given none."""
    import yaml

    return yaml.safe_load((CONF / "source" / "pretraining.yaml").read_text(encoding="utf-8"))
