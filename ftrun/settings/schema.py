"""The settings of an experiment, their types and ranges; the defaults are in the YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftrun.errors import ConfigError
from ftrun.settings.checks import above, at_least, auto_or_switch, every, finite, mapping, one_of
from ftrun.settings.protocols import Schedule, Strategy, Task

ROUNDED = ("8bit", "4bit")  # ways to load weights


@dataclass
class Train:
    """Settings of the training loop, the same for every task and strategy."""

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
    keep: str | bool
    graphs: str | bool  # "auto" or False
    compile: bool
    checkpoint_layers: bool | str

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
        one_of("train.precision", self.precision, ["auto", "fp32", "bf16", "fp16", "tf32"])
        auto_or_switch("train.checkpoint_layers", self.checkpoint_layers)
        if self.graphs not in ("auto", False):
            raise ConfigError(f"train.graphs is auto or false, not '{self.graphs}'")
        every("train.eval_every", self.eval_every)
        every("train.checkpoint_every", self.checkpoint_every)
        auto_or_switch("train.keep", self.keep)
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ConfigError(
                f"train.micro_batch={self.micro_batch} is larger than train.batch_size={self.batch_size}; "
                "it is the part of a batch that fits into memory"
            )


@dataclass
class ModelSettings:
    """The model, the origin of its weights, and the pooling of its sentence vector."""

    name: str
    init: str
    pooling: str
    revision: str | None
    trust_remote_code: bool
    layers: int | None
    width: int | None
    heads: int | None
    attention: str
    load: str

    @property
    def rounded(self) -> bool:
        """Whether the layers are kept at few bits."""
        return self.load in ROUNDED

    @property
    def trust(self) -> dict[str, Any]:
        """What the loaders of transformers are told of Python code that comes with a model."""
        return {"trust_remote_code": self.trust_remote_code}

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads"):
            at_least("model." + name, getattr(self, name), 1)
            if getattr(self, name) is not None and self.init == "pretrained":
                raise ConfigError(
                    f"model.{name}={getattr(self, name)} cannot be combined with pretrained weights,"
                    " which have the checkpoint's shape; possible: model.init=random"
                )
        if not self.name:
            raise ConfigError(
                "model.name is empty; possible: embedded:NAME, a directory or a name on the Hub"
            )
        one_of("model.init", self.init, ["pretrained", "random"])
        one_of("model.pooling", self.pooling, ["auto", "head", "cls", "mean"])
        one_of("model.attention", self.attention, ["auto", "eager", "sdpa", "flash_attention_2"])
        one_of("model.load", self.load, ["full", *ROUNDED])
        if self.rounded and self.init == "random":
            raise ConfigError(
                f"model.load={self.load} rounds pretrained weights, and model.init=random has none;"
                " possible: model.load=full"
            )


@dataclass
class Source:
    """What the model learned before: its pre-training, a finished run, or a task to train first."""

    kind: str  # pretraining | run | task
    run: str  # the run's directory
    node: dict[str, Any]  # the settings of the task to train first
    task: Task | None  # the pre-training task


@dataclass
class Domain:
    """A domain: text on which a second LoRA is trained, and labelled rows."""

    text: Any  # the task of modelling the domain's text, as a node
    rows: str | list[str] | None
    test: str | list[str] | None
    columns: list[str] | None
    weights: list[float]
    train: Any  # settings of train that differ for this text

    def __post_init__(self) -> None:
        mapping("compose.text", self.text)
        mapping("compose.train", self.train)
        if self.rows is None:
            raise ConfigError(
                "compose.rows is not set; it takes labelled rows of the domain: compose.rows=FILE"
            )
        if len(self.weights) != 2:
            raise ConfigError(
                f"compose.weights is a list of two numbers, for task and domain, not {self.weights}"
            )
        for weight in self.weights:
            finite("compose.weights", weight)


@dataclass
class Pretrain:
    """A training of random weights that comes first."""

    task: Any  # as a node
    train: Any  # settings of train that differ
    seed: int
    directory: str | None

    def __post_init__(self) -> None:
        mapping("pretrain.task", self.task)
        mapping("pretrain.train", self.train)


@dataclass
class Settings:
    """The validated settings of one experiment; `raw` is the plain dict that they were read from."""

    seed: int
    device: str
    tracker: str
    baselines: bool  # whether the data card has them
    task: Task
    strategy: Strategy
    schedule: Schedule
    model: ModelSettings
    train: Train
    protect: Strategy | None  # a strategy that protects earlier knowledge while `strategy` trains
    source: Source | None
    scenario: str
    sequence: list[Any] | None
    compose: Domain | None
    pretrain: Pretrain | None
    strategy_name: str
    raw: dict[str, Any]
    auto: frozenset[str] = frozenset()  # settings of train at auto, where `train` has stand-ins for numbers

    @property
    def streamed(self) -> bool:
        """Whether the training rows are read from the disk as they are needed, and are not held."""
        return bool(self.raw["task"].get("stream"))

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        one_of("scenario", self.scenario, ["task", "domain", "class"])
        one_of("tracker", self.tracker, ["none", "tensorboard", "wandb", "mlflow"])
        if not (self.device.startswith("cuda:") and self.device[5:].isdigit()):
            one_of("device", self.device, ["auto", "cpu", "cuda"])
        if self.device == "cpu" and self.train.precision in ("fp16", "tf32"):
            raise ConfigError(
                f"train.precision={self.train.precision} needs a GPU;"
                " possible with device=cpu: auto, fp32, bf16"
            )
        self.task.check(self)
        self.guard.check(self)
        spec = self.task.spec(None)
        if self.scenario != "task" and spec.labels is None:
            raise ConfigError(
                f"scenario={self.scenario} needs labels, which task={self.task.name} does not have;"
                " possible: scenario=task"
            )
        if self.model.rounded:
            self.refuse_rounded()
        if self.strategy.needs_new_head and not spec.new_head:
            raise ConfigError(
                f"strategy={self.strategy_name} trains a new head, which task={self.task.name} does not have;"
                " possible: strategy=full, lora, freeze, gradual_unfreeze"
            )

    def refuse_rounded(self) -> None:
        """ConfigError for what would train, hold or fold layers that are kept at few bits."""
        load = f"model.load={self.model.load}"
        if not self.strategy.on_rounded:
            raise ConfigError(
                f"{load} keeps the layers at few bits, where strategy={self.strategy_name} cannot train them;"
                " possible: strategy=lora with variant=lora, rslora or dora, or model.load=full"
            )
        others = {"protect": self.protect, "compose": self.compose, "sequence": self.sequence}
        if found := [name for name, value in others.items() if value is not None]:
            raise ConfigError(
                f"{load} goes without {found[0]}=, which needs all bits; possible: model.load=full"
            )

    @property
    def guard(self) -> Strategy:
        """The strategy that protects earlier knowledge."""
        return self.protect or self.strategy
