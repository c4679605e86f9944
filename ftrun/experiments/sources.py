"""What the network knew before: earlier tasks, each with its examples and its head on the same backbone."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ftrun.data.labels import listed
from ftrun.errors import ConfigError
from ftrun.experiments.pretraining_head import open_objective
from ftrun.models.image_processor import PROCESSOR
from ftrun.models.load import quiet
from ftrun.models.model import Model, Pooled, backbone_of
from ftrun.models.save import reload
from ftrun.runs.run import Run
from ftrun.settings.resolve import load_class
from ftrun.settings.schema import ModelSettings, Settings, read
from ftrun.tasks.base import SPLITS, Task
from ftrun.training.evaluate import evaluate

if TYPE_CHECKING:
    from accelerate import Accelerator

START = "start"  # in a run directory: the source's weights, where these stand in no checkpoint of their own


@dataclass
class Past:
    """An earlier task, and the network with that task's head."""

    name: str
    task: Task
    model: Model

    @property
    def rows(self) -> int:
        """Training texts or rows; a text that is masked in several ways counts once."""
        return len({example.row for example in self.task.examples("train")})

    def scores(self, split: str, size: int, accelerator: Accelerator) -> dict[str, float]:
        """Every metric of the task on a split, for the network as it now is."""
        return evaluate(self.model, self.task, self.task.examples(split), size, accelerator)[0]

    def forgotten(self, before: dict[str, float], now: dict[str, float]) -> float:
        """How much of the task's main metric is lost between two scores; below zero it has gained."""
        metric = self.task.default_metric
        sign = 1 if self.task.metrics[metric] == "max" else -1
        return sign * (before[metric] - now[metric])


def chain(path: str) -> list[Run]:
    """The run at `path` and the sources before it, oldest first; ConfigError where one is not finished."""
    run = Run.open(path)
    if not run.finished:
        raise ConfigError(f"source={path} is not finished; to go on with it: ftrun resume {path}")
    if run.config.get("sequence"):
        last = max(path.parent for path in run.path.glob("*-*/config.yaml"))
        raise ConfigError(f"source={path} is a sequence; take one of its runs, such as source={last}")
    refuse_pretraining(run.config["task"], path)
    before = run.config.get("source") or {}
    kind = before.get("kind", "none")
    if kind in ("none", "pretraining"):
        return [run]
    return [*chain(before["run"] if kind == "run" else str(run.path / "source")), run]


def refuse_pretraining(task: dict[str, Any], path: str) -> None:
    """ConfigError for a source that answers nothing, so that nothing says what of it is forgotten."""
    if load_class("tasks", task["kind"]).pretrains:
        raise ConfigError(
            f"source={path}: task={task['name']} answers nothing that could be forgotten; to start from its"
            f" weights: model.name={path}"
        )


def start(settings: Settings, directory: Path) -> ModelSettings:
    """Where the weights come from: the checkpoint named, or what the source run ended with.

    Raises ConfigError when the source is another network than model.name, or has layers that cannot be
    folded into plain weights.
    """
    if settings.source is None or settings.source.kind != "run":
        return settings.model
    run = chain(settings.source.run)[-1]
    theirs = run.config["model"]
    if (theirs["name"], theirs["pooling"]) != (settings.model.name, settings.model.pooling):
        raise ConfigError(
            f"source={run.path} is {theirs['name']} (model.pooling={theirs['pooling']}), this run is "
            f"{settings.model.name} (model.pooling={settings.model.pooling}): another network;"
            " leave model= out to take the source's"
        )
    if settings.strategy_name == "scratch":
        raise ConfigError("strategy=scratch starts from random weights; it takes no source=RUN")
    place = run.model_dir
    if (place / "adapter.json").is_file():
        raise ConfigError(
            f"source={run.path}: the layers of strategy=adapter cannot be folded into the weights;"
            " take a run of another strategy"
        )
    if (place / "adapter_config.json").is_file():
        place = folded(run, read(run.settings).task, directory / START)
    plain = replace(settings.model, layers=None, width=None, heads=None)  # as the weights are
    return replace(plain, name=str(place.resolve()), init="pretrained", revision=None)


def folded(run: Run, task: Task, place: Path) -> Path:
    """A checkpoint with the source's low-rank updates added to its weights, in fp32, made once."""
    if not place.is_dir():
        fresh = place.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        net = plain(run, task)
        with quiet():
            (net.backbone if isinstance(net, Pooled) else net).save_pretrained(fresh)
        for file in [*run.model_dir.glob("token*"), *run.model_dir.glob(PROCESSOR)]:
            shutil.copy(file, fresh)
        fresh.rename(place)
    return place


def plain(run: Run, task: Task) -> nn.Module:
    """A finished run's network without adapters beside its weights."""
    with quiet():
        net = reload(run.model_dir, task.auto_class)
    if isinstance(net, Pooled):
        if hasattr(net.backbone, "merge_and_unload"):
            net.backbone = net.backbone.merge_and_unload()
        return net
    return net.merge_and_unload() if hasattr(net, "merge_and_unload") else net


def with_backbone(net: nn.Module, backbone: nn.Module) -> nn.Module:
    """The network on another backbone object of the same kind; a pooler that this lacks stays its own."""
    pooler = getattr(backbone_of(net), "pooler", None)
    if pooler is not None and getattr(backbone, "pooler", pooler) is None:
        backbone = copy.copy(backbone)
        backbone._modules = dict(backbone._modules)  # the modules themselves stay shared
        backbone.pooler = pooler
    setattr(net, "backbone" if isinstance(net, Pooled) else net.base_model_prefix, backbone)
    return net


def with_fresh_head(model: Model, auto_class: str, seed: int) -> Model:
    """The same backbone under a new random head, also where the checkpoint's own has as many labels."""
    import transformers

    net = model.net
    if isinstance(net, Pooled):  # its head is always new
        return model
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        other = getattr(transformers, auto_class).from_config(net.config, dtype=torch.float32)
    fresh = {name for name, _ in other.named_parameters() if not inside(name, other)}
    kept = {name.removeprefix("net.") for name in model.fresh} & {name for name, _ in net.named_parameters()}
    return Model(with_backbone(other, backbone_of(net)), model.tokenizer, model.source, fresh | kept)


def with_head_of(model: Model, run: Run, task: Task) -> Model:
    """The network with the head that a source run ended with; ConfigError where it has other labels."""
    theirs = plain(run, task)
    refuse_other_labels(run, theirs.config.id2label, model.net.config.id2label)
    model.net.load_state_dict(
        {name: value for name, value in theirs.state_dict().items() if not inside(name, model.net)},
        strict=False,
    )
    model.fresh = frozenset()
    return model


def inside(name: str, net: nn.Module) -> bool:
    """Whether a weight belongs to the backbone."""
    prefix = "backbone" if isinstance(net, Pooled) else net.base_model_prefix
    return name.startswith(prefix + ".")


def open_pasts(settings: Settings, model: Model) -> list[Past]:
    """The earlier tasks, oldest first; reads and encodes their data. Raises what reading them raises."""
    if settings.source is None:
        return []
    if settings.source.kind == "pretraining":
        return [open_pretraining(settings.source, settings.model, model)]
    found = []
    for run in chain(settings.source.run):
        earlier = read(run.settings)
        if earlier.source is not None and earlier.source.kind == "pretraining":
            found.append(open_pretraining(earlier.source, earlier.model, model))
        found.append(open_run(run, earlier, settings, model))
    return found


def open_pretraining(source: Any, checkpoint: ModelSettings, model: Model) -> Past:
    task = source.task()
    objective = open_objective(task, checkpoint, model)
    still(objective, model)
    return Past("pretraining", task, objective)


def open_run(run: Run, earlier: Settings, settings: Settings, model: Model) -> Past:
    """A finished run's task under its own head, or under this run's where the scenario shares one."""
    task = earlier.task
    task.read(earlier.seed)
    if task.auto_class == settings.task.auto_class and not task.new_head:  # one language model, more text
        own = model
    elif settings.scenario == "task" or not (task.new_head or settings.task.new_head):
        device = next(model.parameters()).device
        net = with_backbone(plain(run, task).to(device), backbone_of(model.net))
        if not task.new_head:
            net.tie_weights(recompute_mapping=False)  # and not what the checkpoint left untied
        own = Model(net, model.tokenizer, model.source, set())
        still(own, model)
    else:
        refuse_other_labels(run, task.head().get("id2label", {}), settings.task.head().get("id2label", {}))
        own = model
    for split in SPLITS:
        task.encode(model.tokenizer, split)
    return Past(task.name, task, own)


def still(past: Model, model: Model) -> None:
    """The head of an earlier task stays as it is; its dropout is on in training, also in a resumed run."""
    shared = {id(parameter) for parameter in model.parameters()}
    for parameter in past.parameters():
        if id(parameter) not in shared:
            parameter.requires_grad_(False)
    past.train()


def refuse_other_labels(run: Run, theirs: dict[int, str], ours: dict[int, str]) -> None:
    if theirs != ours:
        raise ConfigError(
            f"scenario=domain and scenario=class share one head, but source={run.path} has the labels"
            f" {listed([*theirs.values()])} and this task {listed([*ours.values()])}; possible: scenario=task"
        )
