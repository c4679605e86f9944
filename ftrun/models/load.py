"""A checkpoint, or random weights in its shape, becomes a network with the head of a task."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from ftrun.errors import ConfigError
from ftrun.models.architecture import is_decoder, refuse_other_direction
from ftrun.models.image_processor import Reader, open_reader
from ftrun.models.locate import Place, locate
from ftrun.models.model import Model, Pooled
from ftrun.models.resize import resize
from ftrun.models.small import IMAGES, Task, refuse_other_inputs
from ftrun.models.tokenizer import brings_one

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ftrun.settings.schema import ModelSettings


def load(settings: ModelSettings, task: Task, seed: int) -> Model:
    """The network of a checkpoint with the head of the task, in fp32 on the CPU.

    `seed` decides the weights that the checkpoint does not bring. Raises ConfigError for a checkpoint that
    is missing, incomplete, pickled or out of reach or reads something else than the task has, and for texts
    longer than its positions.
    """
    place, config, tokenizer = fitting(settings, task, task.head())
    if task.auto_class != IMAGES:
        tokenizer = load_tokenizer(place, config, task.make_tokenizer(brings_one(place.name)))
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        net, fresh = build(settings, place, config, task.auto_class)
        fresh |= task.dress(net, place.name if settings.init == "pretrained" else None)
    return Model(net, tokenizer, place.name if settings.init == "pretrained" else None, fresh)


def outline(settings: ModelSettings, task: Task) -> Model:
    """The network without weights, a moment's work, to see what it has; ConfigError as `load` raises it."""
    place, config, _ = fitting(settings, task, {})
    with torch.device("meta"), quiet():
        net, _ = build(replace(settings, init="random"), place, config, task.auto_class)
        task.dress(net, None)
    return Model(net, None, place.name if settings.init == "pretrained" else None, set())


def fitting(
    settings: ModelSettings, task: Task, head: dict[str, Any]
) -> tuple[Place, PretrainedConfig, Reader | None]:
    """Where the network lies, its configuration and its reader of images; ConfigError where none fits."""
    place = locate(settings)
    config = place.config(head)
    refuse_other_inputs(settings, task, config)
    refuse_other_direction(settings, task, config)
    resize(config, settings)
    if task.auto_class == IMAGES:
        own_shape = task.shape is not None
        return (
            place,
            config,
            None if own_shape else open_reader(settings, place, config, task.size, task.channels),
        )
    limit = positions(config)
    if task.max_length > limit:
        length = f"task.{'block' if hasattr(task, 'block') else 'max_length'}"
        raise ConfigError(
            f"{length}={task.max_length}, but {settings.name} has {limit} positions; set {length}={limit} or"
            " less, or take another model="
        )
    return place, config, None


def positions(config: PretrainedConfig) -> int:
    """The longest input in tokens; RoBERTa's family counts its positions from the padding id."""
    limit = getattr(config, "max_position_embeddings", None) or 2**31
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return limit - offset


def build(
    settings: ModelSettings, place: Place, config: PretrainedConfig, auto_class: str
) -> tuple[nn.Module, set[str]]:
    """The network and the names of its fresh weights, by the architecture's own head or a pooled one."""
    if settings.pooling == "head":
        return network(settings, place, config, auto_class, {})
    backbone, fresh = network(settings, place, config, "AutoModel", without_pooler(config))
    net = Pooled(backbone, settings.pooling, config.num_labels)
    return net, {f"backbone.{name}" for name in fresh} | {"classifier.weight", "classifier.bias"}


def network(
    settings: ModelSettings, place: Place, config: PretrainedConfig, auto_class: str, extra: dict[str, Any]
) -> tuple[nn.Module, set[str]]:
    import transformers

    auto = getattr(transformers, auto_class)
    if settings.init == "random":
        net = auto.from_config(
            config, dtype=torch.float32, trust_remote_code=settings.trust_remote_code, **extra
        )
        return net, set()  # nothing is pretrained, so nothing is fresh beside it
    try:
        net, info = auto.from_pretrained(
            place.name,
            config=config,
            dtype=torch.float32,  # transformers 5 would keep a half-precision checkpoint and train it so
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # a checkpoint's own head for other labels; it is fresh then
            output_loading_info=True,
            **place.options,
            **extra,
        )
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"model.name={settings.name} cannot be loaded: {reason}") from error
    return net, set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}


def without_pooler(config: PretrainedConfig) -> dict[str, Any]:
    """What AutoModel must be told to leave out a pooler that would have no part in the loss."""
    from transformers import AutoModel

    arguments = inspect.signature(AutoModel._model_mapping[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in arguments else {}


def load_tokenizer(
    place: Place, config: PretrainedConfig, made: PreTrainedTokenizerBase | None
) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, or one that was `made` for a network which then has as many tokens.

    It has a token for padding, and a decoder is told which: it classifies at the last other token.
    """
    from transformers import AutoTokenizer

    if made is not None:
        config.vocab_size = len(made)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(config, name, getattr(made, name))
        return made
    try:
        tokenizer = AutoTokenizer.from_pretrained(place.name, **place.options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.name={place.name} has no tokenizer that loads") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if config.pad_token_id is None or is_decoder(config):
        config.pad_token_id = tokenizer.pad_token_id
    fit_inputs(tokenizer, config)
    if len(tokenizer) > config.vocab_size:
        raise ConfigError(
            f"model.name={place.name}: the tokenizer has {len(tokenizer)} tokens, "
            f"the network {config.vocab_size}"
        )
    return tokenizer


def fit_inputs(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> None:
    """Let the tokenizer give token types only to a network that tells two of them apart."""
    if getattr(config, "type_vocab_size", 0) < 2:
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]


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
