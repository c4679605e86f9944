"""A saved network read back, and how far its answers are from those of the network in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import nn

from ftrun import ASSETS
from ftrun.errors import ConfigError
from ftrun.models.adapters import Adapters
from ftrun.models.architecture import headless
from ftrun.models.heads import Pooled, layers_of, restore
from ftrun.models.layers import output_layers
from ftrun.models.load import quiet, without_pooler
from ftrun.models.logits import Both, logits_of
from ftrun.models.model import Model
from ftrun.models.quantized import KEY as LOADED
from ftrun.models.quantized import quantize, refuse_unquantizable, round_weights
from ftrun.models.save import ADAPTER_WEIGHTS, ADAPTERS, EMBEDDED
from ftrun.models.sentences import longest, read_head
from ftrun.models.small import register

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def reload(directory: Path, auto_class: str, in_full: bool = False) -> nn.Module:
    """What the directory holds; no other library reads adapters.

    The base of a LoRA is loaded at the few bits that it was trained on, or `in_full` with the same values.
    """
    import transformers
    from transformers import AutoConfig

    register()
    config = AutoConfig.from_pretrained(directory)
    pooling = getattr(config, "ftrun_pooling", None)
    extra: dict[str, Any] = {}
    if pooling:
        auto_class, extra = headless(config), without_pooler(config)
    if (directory / ADAPTERS).is_file():
        net = reload_bottlenecks(directory, auto_class, config, extra)
        restore(net, directory)
        return net.eval()
    if (directory / "adapter_config.json").is_file():
        net = reload_lora(directory, auto_class, config, extra, in_full)
    else:
        net = getattr(transformers, auto_class).from_pretrained(directory, use_safetensors=True, **extra)
        restore(net, directory)
    if pooling:
        pooled = Pooled(net, pooling, config.num_labels, longest(directory))
        pooled.to(next(net.parameters()).dtype)
        read_head(pooled, directory)
        net = pooled
    return net.eval()


def base_network(source: str, auto_class: str, config: PretrainedConfig, extra: dict[str, Any]) -> nn.Module:
    """The checkpoint that something small was trained on, in fp32 and with the head that `config` wants."""
    import transformers

    return getattr(transformers, auto_class).from_pretrained(
        source,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        **extra,
    )


def reload_lora(
    directory: Path, auto_class: str, config: PretrainedConfig, extra: dict[str, Any], in_full: bool
) -> nn.Module:
    from peft import PeftConfig, PeftModel

    source = PeftConfig.from_pretrained(str(directory)).base_model_name_or_path
    base = base_network(source, auto_class, config, extra)
    restore(base, directory)
    if (load := getattr(config, LOADED, None)) is not None:
        backbone: Any = base.base_model
        layers = layers_of(backbone)
        if in_full:
            round_weights(layers, load)
            config.__dict__.pop(LOADED)
        else:
            refuse_unquantizable(source, layers, load)
            quantize(base, layers, load)
    return PeftModel.from_pretrained(base, str(directory))


def reload_bottlenecks(
    directory: Path, auto_class: str, config: PretrainedConfig, extra: dict[str, Any]
) -> nn.Module:
    """The checkpoint that `adapter.json` names, with adapters, and what was trained in its place.

    Raises ConfigError when the checkpoint is gone or the file of weights is another network's.
    """
    settings = json.loads((directory / ADAPTERS).read_text(encoding="utf-8"))
    name = settings.pop("base_model")
    source = str(ASSETS / name.removeprefix(EMBEDDED)) if name.startswith(EMBEDDED) else name
    try:
        net = base_network(source, auto_class, config, extra)
    except OSError as error:
        raise ConfigError(
            f"{directory / ADAPTERS}: base_model={name} cannot be loaded; write its new path there"
        ) from error
    if hasattr(config, "ftrun_pooling"):
        net = Pooled(net, config.ftrun_pooling, config.num_labels)
    adapters = Adapters(**settings)
    adapters.attach(net, output_layers(Model(net, None, name, set()), adapters.placement))
    tensors = load_file(directory / ADAPTER_WEIGHTS)
    missing, unexpected = net.load_state_dict(tensors, strict=False)
    strange = [*unexpected, *(name for name in missing if ".adapter." in name)]
    if strange:
        raise ConfigError(f"{directory / ADAPTER_WEIGHTS} does not fit {name}: {strange[0]}")
    return net


@torch.no_grad()
def difference(model: Model, directory: Path, auto_class: str, batch: dict[str, Any]) -> float:
    """The largest difference of a logit between the network in memory and the one read back, on one batch.

    In fp32 whatever the precision of training: `model.net` knows nothing of that.
    """
    with quiet():
        other = reload(directory, auto_class)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
    here, there = (logits_of(net, inputs, **model.asked) for net in (model.net, other.to(device)))
    model.train(was_training)
    pairs = zip(here, there, strict=True) if isinstance(here, Both) else [(here, there)]
    return max(float((one.float() - other.float()).abs().max()) for one, other in pairs)
