"""The settings of an experiment, their types and ranges; the defaults are in the YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftrun.errors import ConfigError
from ftrun.settings.checks import above, at_least, auto_or_switch, convert, every, one_of
from ftrun.settings.earlier import Domain, Pretrain, Source
from ftrun.settings.fewer_bits import refuse_half, refuse_rounded
from ftrun.settings.optimizers import refuse_with_schedule_free
from ftrun.settings.patterns import compiled
from ftrun.settings.protocols import Schedule, Strategy, Task
from ftrun.settings.sharded import refuse_with_shard

OPTIMIZERS = ("adamw", "adamw8bit", "sgd", "lars", "muon", "schedulefree", "adafactor")
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
    rates: Any  # pattern → peak rate
    average: str
    ema_decay: float  # the most
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
    frozen_dtype: str
    shard: bool

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer divides gradients by their size."""
        return self.optimizer not in ("sgd", "lars")

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
            raise ConfigError(f"train.warmup is a share below 1 or whole steps, not {self.warmup}")
        one_of("train.optimizer", self.optimizer, OPTIMIZERS)
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"train.momentum is at least 0 and below 1, not {self.momentum}")
        if self.rates is not None:
            self.check_rates(self.rates)
        one_of("train.average", self.average, ["none", "ema", "soup"])
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"train.ema_decay is at least 0 and below 1, not {self.ema_decay}")
        one_of("train.sampling", self.sampling, ["auto", "group_by_length", "random"])
        one_of("train.precision", self.precision, ["auto", "fp32", "bf16", "fp16", "tf32"])
        auto_or_switch("train.checkpoint_layers", self.checkpoint_layers)
        one_of("train.frozen_dtype", self.frozen_dtype, ["fp32", "bf16"])
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

    def check_rates(self, rates: Any) -> None:
        if not isinstance(rates, dict):
            raise ConfigError(
                f"train.rates is a rate for each pattern, such as {{classifier: 1e-3}}, not {rates}"
            )
        for pattern, rate in rates.items():
            compiled("train.rates", pattern)
            above(f"train.rates.{pattern}", convert(f"train.rates.{pattern}", rate, float), 0)
        if self.layer_decay != 1:
            raise ConfigError(
                f"train.rates and train.layer_decay={self.layer_decay} both set the rates of layers;"
                " possible: train.layer_decay=1"
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
        if self.train.optimizer == "schedulefree":
            refuse_with_schedule_free(self)
        if self.train.shard:
            refuse_with_shard(self.task, self.train, self.model)
        spec = self.task.spec(None)
        if self.scenario != "task" and spec.labels is None:
            raise ConfigError(
                f"scenario={self.scenario} needs labels, which task={self.task.name} does not have;"
                " possible: scenario=task"
            )
        if self.model.rounded:
            refuse_rounded(self)
        if self.half:
            refuse_half(self)
        if self.strategy.needs_new_head and not spec.new_head:
            raise ConfigError(
                f"strategy={self.strategy_name} trains a new head, which task={self.task.name} does not have;"
                " possible: strategy=full, lora, freeze, gradual_unfreeze"
            )

    @property
    def half(self) -> bool:
        """Whether frozen weights are kept in bf16."""
        return self.train.frozen_dtype == "bf16"

    @property
    def guard(self) -> Strategy:
        """The strategy that protects earlier knowledge."""
        return self.protect or self.strategy
