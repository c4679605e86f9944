"""A checkpoint, or random weights in its shape, becomes a network with the head of a task."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ftrun.errors import ConfigError, told
from ftrun.models.architecture import IMAGES, LANGUAGE, headless, refuse_other_direction, refuse_other_inputs
from ftrun.models.few_bits.half import KEY as FROZEN
from ftrun.models.few_bits.quantized import quantize, refuse_unquantizable
from ftrun.models.files.locate import Checkpoint, locate
from ftrun.models.files.padding import keep_emptied
from ftrun.models.files.pretrained import fetch, no_larger, pretrained, refuse_other_shapes
from ftrun.models.files.reading import CONFIG, loading, refuse_larger_than_memory
from ftrun.models.files.stored import shapes
from ftrun.models.heads import Pooled, backbone_of, layers_of, project
from ftrun.models.image_processor import ImageProcessor, open_processor
from ftrun.models.model import Model
from ftrun.models.pooling import resolved
from ftrun.models.resize import resize
from ftrun.models.spec import ImageInput, Spec
from ftrun.models.tokenizer import load_tokenizer, trained_for

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ftrun.settings.schema import ModelSettings


def load(
    settings: ModelSettings, spec: Spec, seed: int, freezing: Callable[[Model], None] | None = None
) -> Model:
    """The network of a checkpoint with the head of the task, in fp32 on the CPU.

    `seed` decides the weights that the checkpoint does not bring. What `freezing` would freeze of those that
    it does is read in bf16. Raises ConfigError for a checkpoint that is missing, incomplete, pickled or out
    of reach or reads something else than the task has, and for texts longer than its positions.
    """
    settings = resolved(settings, spec)
    checkpoint, config, processor = reading(settings, spec)
    source = checkpoint.name if settings.init == "pretrained" else None
    half = None if freezing is None else frozen_of(settings, spec, checkpoint, freezing)
    with torch.random.fork_rng(), quiet(), loading(checkpoint.label, checkpoint.name, CONFIG):
        torch.manual_seed(seed)
        net, fresh = build(settings, checkpoint, config, spec, half)
        if spec.projection is not None:
            fresh |= project(net, *spec.projection, source)
    if half is not None:
        setattr(net.config, FROZEN, "bf16")
    if spec.auto_class in LANGUAGE:
        keep_emptied(net)
    model = Model(net, processor, source, fresh)
    model.revision = settings.revision
    if settings.rounded:
        quantize(net, layers_of(backbone_of(net)), settings.load)
    return model


def reading(
    settings: ModelSettings, spec: Spec
) -> tuple[Checkpoint, PretrainedConfig, PreTrainedTokenizerBase | ImageProcessor | None]:
    """Where the network lies, its configuration, and what reads rows for it; ConfigError as by `load`."""
    checkpoint, config, processor = fitting(settings, spec, spec.config)
    if spec.auto_class == IMAGES:
        return checkpoint, config, processor
    made = trained_for(spec, checkpoint.name, settings.init == "pretrained")
    return checkpoint, config, load_tokenizer(checkpoint, config, made)


def outline(settings: ModelSettings, spec: Spec, any_size: bool = False, bits: int = 32) -> Model:
    """The network without weights, a moment's work, to see what it has; ConfigError as `load` raises it.

    OutOfMemory where its weights, of so many `bits`, exceed the machine's memory; with `any_size` it may be
    for another machine, and its weights need not be here.
    """
    settings = resolved(settings, spec)
    checkpoint, config, _ = fitting(settings, spec, {}, weightless=any_size)
    stored = shapes(checkpoint) if settings.init == "pretrained" else None
    named = checkpoint.label
    meta = torch.device("meta")
    with meta, quiet(), loading(named, checkpoint.name, CONFIG), no_larger(named, stored):
        net, fresh = build(replace(settings, init="random", load="full"), checkpoint, config, spec)
        if stored is not None:
            own, extra = (net.backbone, without_pooler(config)) if isinstance(net, Pooled) else (net, {})
            before = "backbone." if own is not net else ""
            fresh |= {before + name for name in refuse_other_shapes(own, stored, named, **extra)}
        if spec.projection is not None:
            fresh |= project(net, *spec.projection, None)
    if not any_size:
        refuse_larger_than_memory(settings.name, net, bits)
    model = Model(net, None, checkpoint.name if settings.init == "pretrained" else None, fresh)
    if settings.rounded:
        refuse_unquantizable(model.name, layers_of(backbone_of(net)), settings.load)
    return model


def frozen_of(
    settings: ModelSettings, spec: Spec, checkpoint: Checkpoint, freezing: Callable[[Model], None]
) -> set[str]:
    """The names of the weights that the checkpoint brings and `freezing` freezes, found on an outline."""
    if shapes(checkpoint) is None:  # which weights are fresh is to be read from the files
        fetch(spec.auto_class, checkpoint)
    model = outline(settings, spec, bits=16)
    every = dict(model.named_parameters(remove_duplicate=False))
    on_outline(model, freezing)
    frozen = {name for name, parameter in every.items() if not parameter.requires_grad}
    return {name.removeprefix("net.") for name in frozen - model.fresh}


def on_outline(model: Model, prepare: Callable[[Model], None]) -> None:
    """What a strategy does to a network, done to an outline."""
    with torch.device("meta"), torch.random.fork_rng(), quiet():
        prepare(model)


def fitting(
    settings: ModelSettings, spec: Spec, head: dict[str, Any], weightless: bool = False
) -> tuple[Checkpoint, PretrainedConfig, ImageProcessor | None]:
    """Where the network lies, its configuration and its reader of images; ConfigError where none fits."""
    checkpoint = locate(settings, weightless)
    config = checkpoint.config(head)
    refuse_other_inputs(settings, spec, config)
    refuse_other_direction(settings, spec, config)
    resize(config, settings)
    inputs = spec.inputs
    if isinstance(inputs, ImageInput):
        if inputs.shape is not None:
            return checkpoint, config, None
        return checkpoint, config, open_processor(settings, checkpoint, config, inputs.size, inputs.channels)
    limit = positions(config)
    if inputs.max_length > limit:
        raise ConfigError(
            f"{inputs.setting}={inputs.max_length}, but {settings.name} has {limit} positions; set"
            f" {inputs.setting}={limit} or less, or take another model="
        )
    return checkpoint, config, None


def positions(config: PretrainedConfig) -> int:
    """The longest input in tokens; RoBERTa's family counts its positions from the padding id.

    A number below 1 is no limit: XLNet, whose positions are relative, has -1.
    """
    limit = getattr(config, "max_position_embeddings", None) or 0
    if limit < 1:
        return 2**31
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return limit - offset


def build(
    settings: ModelSettings,
    checkpoint: Checkpoint,
    config: PretrainedConfig,
    spec: Spec,
    half: set[str] | None = None,
) -> tuple[nn.Module, set[str]]:
    """The network and the names of its fresh weights, by the architecture's own head or a pooled one."""
    if settings.pooling == "head":
        config.__dict__.pop("ftrun_pooling", None)  # that of the run which saved the checkpoint
        return network(settings, checkpoint, config, spec.auto_class, {}, half)
    if half is not None:
        half = {name.removeprefix("backbone.") for name in half}
    backbone, fresh = network(settings, checkpoint, config, headless(config), without_pooler(config), half)
    net = Pooled(backbone, settings.pooling, config.num_labels, getattr(spec.inputs, "max_length", None))
    return net, {f"backbone.{name}" for name in fresh} | {"classifier.weight", "classifier.bias"}


def network(
    settings: ModelSettings,
    checkpoint: Checkpoint,
    config: PretrainedConfig,
    auto_class: str,
    extra: dict[str, Any],
    half: set[str] | None,
) -> tuple[nn.Module, set[str]]:
    import transformers

    if settings.attention != "auto":
        extra = extra | {"attn_implementation": settings.attention}
    if settings.init == "random":
        with attention_known(settings):
            net = getattr(transformers, auto_class).from_config(
                config, dtype=torch.float32, trust_remote_code=settings.trust_remote_code, **extra
            )
        return net, set()  # nothing is pretrained, so nothing is fresh beside it
    # in fp32, as transformers 5 would keep a half-precision checkpoint and train it so
    extra |= {"config": config, "dtype": torch.float32}
    return pretrained(
        auto_class, checkpoint, checkpoint.label, half=half.__contains__ if half else None, **extra
    )


@contextmanager
def attention_known(settings: ModelSettings) -> Iterator[None]:
    """One line where an implementation of attention is not installed, or not made for the architecture."""
    try:
        yield
    except (ImportError, ValueError) as error:
        if settings.attention == "auto":
            raise
        raise ConfigError(f"model.attention={settings.attention} is not possible: {told(error)}") from error


def attention_of(net: nn.Module) -> str | None:
    """The implementation that transformers has chosen, or was told; None of a network without attention."""
    has = any("attention" in type(module).__name__.lower() for module in net.modules())
    return getattr(net.config, "_attn_implementation", None) if has else None


def without_pooler(config: PretrainedConfig) -> dict[str, Any]:
    """What AutoModel needs to leave out a pooler, which would have no part in the loss."""
    from transformers import AutoModel

    arguments = inspect.signature(AutoModel._model_mapping[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in arguments else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Without loading reports, progress bars and the libraries' warnings to each other."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
