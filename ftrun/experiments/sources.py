"""What the network knew before: earlier tasks, each with its examples and its head on the same backbone."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ftrun.errors import ConfigError, listed
from ftrun.experiments.pooling import answers_alike
from ftrun.experiments.pretraining_head import open_pretraining_head, uniform_loss
from ftrun.models.heads import Pooled, backbone_of
from ftrun.models.image_processor import PROCESSOR
from ftrun.models.load import load, quiet
from ftrun.models.model import Model
from ftrun.models.reload import reload
from ftrun.runs.artifacts import told_beside
from ftrun.runs.home import note
from ftrun.runs.manifest import seal
from ftrun.runs.run import Run
from ftrun.runs.terminal import say
from ftrun.runs.typed import continuing, typed
from ftrun.settings.earlier import Source
from ftrun.settings.read import read
from ftrun.settings.schema import ModelSettings, Settings
from ftrun.settings.seeds import stream
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import SPLITS
from ftrun.training.source_task import SourceTask

START = "start"  # in a run directory: the source's weights, where these stand in no checkpoint of their own


def chain(path: str) -> list[Run]:
    """The run at `path` and the sources before it, oldest first; ConfigError where one is not finished."""
    run = Run.open(path)
    if not run.finished:
        raise ConfigError(f"source={path} is not finished; {continuing(path)}")
    if run.config.get("sequence"):
        last = max((path.parent for path in run.path.glob("*-*/config.yaml")), default=run.path / "1-TASK")
        raise ConfigError(
            f"source={path} is a sequence; take one of its runs, such as {typed('source', last)}"
        )
    refuse_contrastive(run, path)
    before = read(run.settings).source
    if before is None or before.kind == "pretraining":
        return [run]
    return [*chain(before.run if before.kind == "run" else str(run.path / "source")), run]


def refuse_contrastive(run: Run, path: str) -> None:
    """ConfigError for a source that answers nothing, so that nothing says what of it is forgotten."""
    task = read(run.settings).task
    if task.spec(None).projection is not None:
        raise ConfigError(
            f"source={path}: task={task.name} makes no predictions, so forgetting cannot be measured;"
            f" to start from its weights: {typed('model.name', path)}"
        )


def start(settings: Settings, directory: Path) -> ModelSettings:
    """Where the weights come from: the checkpoint named, or what the source run ended with.

    Raises ConfigError when the source is another network than model.name, or has layers that cannot be
    folded into plain weights.
    """
    if settings.source is None or settings.source.kind != "run":
        return settings.model
    run = chain(settings.source.run)[-1]
    earlier = read(run.settings)
    theirs, pooling = earlier.model, settings.model.pooling
    other = pooling not in ("auto", theirs.pooling) and answers_alike(earlier, settings)
    if other or theirs.name != settings.model.name:
        raise ConfigError(
            f"source={run.path} is {theirs.name} (model.pooling={theirs.pooling}), this run is "
            f"{settings.model.name} (model.pooling={pooling}), another model;"
            " omit model= to use the source's"
        )
    if settings.strategy.starts_random:
        raise ConfigError(
            f"strategy={settings.strategy_name} starts from random weights and takes no source=RUN"
        )
    place = run.model_dir
    if not place.is_dir():
        raise ConfigError(f"source={settings.source.run} has no saved model: {place} is missing")
    if (place / "adapter.json").is_file():
        raise ConfigError(
            f"source={run.path}: {told_beside(place)} and cannot be folded into the weights; possible: a run"
            " of another strategy"
        )
    if (place / "adapter_config.json").is_file():
        place = folded(run, directory / START)
    plain = replace(settings.model, layers=None, width=None, heads=None)  # as the weights are
    return replace(plain, name=str(place.resolve()), init="pretrained", revision=None)


def load_network(
    settings: Settings, data: TaskData, directory: Run, freezing: Callable[[Model], None] | None = None
) -> Model:
    """The checkpoint's network or the source's, under the head that the scenario asks for.

    With train.frozen_dtype=bf16 what `freezing` freezes, by default the strategy, is in bf16.
    """
    seed = stream(settings.seed, "init")
    own = (freezing or settings.strategy.prepare) if settings.half else None
    model = load(start(settings, directory.path), data.spec, seed, own)
    if settings.source is None or settings.source.kind != "run" or not data.spec.new_head:
        return model
    if settings.scenario == "task":
        return with_fresh_head(model, data.spec.auto_class, seed)
    return with_head_of(model, Run.open(settings.source.run))


def folded(run: Run, place: Path) -> Path:
    """A checkpoint with the source's low-rank updates added to its weights, in fp32, made once."""
    if not place.is_dir():
        fresh = place.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        net = plain(run)
        with quiet():
            (net.backbone if isinstance(net, Pooled) else net).save_pretrained(fresh)
        for file in [*run.model_dir.glob("token*"), *run.model_dir.glob(PROCESSOR)]:
            shutil.copy(file, fresh)
        seal(fresh)
        fresh.rename(place)
    return place


def plain(run: Run) -> nn.Module:
    """A finished run's network without adapters beside its weights."""
    with quiet():
        own = read(run.settings)
        trust = own.model.trust_remote_code
        net = reload(run.model_dir, own.task.spec(None).auto_class, in_full=True, trust=trust)
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


def with_head_of(model: Model, run: Run) -> Model:
    """The network with the head that a source run ended with; ConfigError where it has other labels."""
    theirs = plain(run)
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


def open_sources(settings: Settings, data: TaskData, model: Model) -> list[SourceTask]:
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
        found.append(open_run(run, earlier, settings, data, model))
    return found


def open_pretraining(source: Source, checkpoint: ModelSettings, model: Model) -> SourceTask:
    """The checkpoint's own pre-training on the backbone that is trained now."""
    assert source.task is not None
    data, head, fitted = open_pretraining_head(source.task, checkpoint, model)
    still(head, model)
    return SourceTask("pretraining", data, head, uniform_loss(head), fitted)


def open_run(run: Run, earlier: Settings, settings: Settings, data: TaskData, model: Model) -> SourceTask:
    """A finished run's task under its own head, or under this run's where the scenario shares one."""
    if where := note(run.path, run.home):
        say(where)
    theirs = TaskData.read(earlier.task, earlier.seed)
    spec, ours = theirs.spec, data.spec
    if spec.auto_class == ours.auto_class and not spec.new_head:  # one language model, more text
        own = model
    elif settings.scenario == "task" or not (spec.new_head or ours.new_head):
        device = next(model.parameters()).device
        net = with_backbone(plain(run).to(device), backbone_of(model.net))
        if not spec.new_head:
            net.tie_weights(recompute_mapping=False)  # and not what the checkpoint left untied
        own = Model(net, model.tokenizer, model.source, set())
        still(own, model)
    else:
        refuse_other_labels(run, spec.config.get("id2label", {}), ours.config.get("id2label", {}))
        own = model
    theirs.encode(model.tokenizer, *SPLITS)
    return SourceTask(earlier.task.name, theirs, own)


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
