"""A trained network on disk, as plain transformers or peft loads it, and the proof that it does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ftrun.models import Pooled, backbone_of, name_of, quiet, without_pooler
from ftrun.networks import register

if TYPE_CHECKING:
    from ftrun.models import Model

HEAD = "head.safetensors"  # the head of model.pooling=cls|mean, which no class of transformers has
PEFT_PREFIX = "base_model.model."
PEFT_TASKS = {"AutoModelForSequenceClassification": "SEQ_CLS"}


def export(model: Model, directory: Path, auto_class: str) -> None:
    """Write weights, config with label names, and tokenizer; an adapter in the format of peft.

    An adapter beside random weights is merged into them, since nobody else has what it belongs to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    net = model.net
    whole = backbone_of(net) if isinstance(net, Pooled) else net
    if isinstance(net, Pooled):
        net.config.ftrun_pooling = net.pooling
        head = {name: value.contiguous() for name, value in net.classifier.state_dict().items()}
        save_file({name: value.cpu() for name, value in head.items()}, directory / HEAD)
    if model.adapter is None:
        whole.save_pretrained(directory)
    elif model.source is None:
        merged(whole).save_pretrained(directory)
    else:
        write_adapter(model, whole, directory, auto_class)
        net.config.save_pretrained(directory)
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(directory)


def merged(whole: nn.Module) -> nn.Module:
    """A copy whose low-rank updates are added to the weights they stand beside."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = copy.deepcopy(whole)
    for name, module in list(whole.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            whole.set_submodule(name, module.get_base_layer())
    return whole


def write_adapter(model: Model, whole: nn.Module, directory: Path, auto_class: str) -> None:
    """The low-rank layers and, as peft's `modules_to_save`, every other trained weight."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    assert model.adapter is not None
    prefix = "net." if whole is model.net else f"net.{name_of(model.net, whole)}."
    tensors, modules = {}, set()
    for name, parameter in model.trained().items():
        if name.startswith(prefix):
            own = name.removeprefix(prefix).replace(".default", "")
            tensors[PEFT_PREFIX + own] = parameter.detach().cpu().contiguous()
            if ".lora_" not in own:
                modules.add(head_module(own, whole))
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    config = copy.deepcopy(model.adapter)
    config.base_model_name_or_path = model.source
    config.task_type = PEFT_TASKS.get(auto_class) if whole is model.net else "FEATURE_EXTRACTION"
    config.modules_to_save = sorted(modules) or None
    config.inference_mode = True
    layers = (name for name, module in whole.named_modules() if isinstance(module, BaseTunerLayer))
    # full names: peft's shortened ones may fit other networks' layers too
    config.target_modules = sorted(layers)
    config.save_pretrained(directory)


def head_module(parameter: str, whole: nn.Module) -> str:
    """The module of `modules_to_save` for a trained weight: a child of the network or its backbone."""
    parts = parameter.split(".")
    prefix = getattr(whole, "base_model_prefix", "")
    return parts[1] if parts[0] == prefix else parts[0]


def reload(directory: Path, auto_class: str) -> nn.Module:
    """What someone without ftrun gets from the directory; only a pooled head needs the few lines in here."""
    import transformers
    from transformers import AutoConfig

    register()
    config = AutoConfig.from_pretrained(directory)
    pooling = getattr(config, "ftrun_pooling", None)
    extra: dict[str, Any] = {}
    if pooling:
        auto_class, extra = "AutoModel", without_pooler(config)
    if (directory / "adapter_config.json").is_file():
        net = reload_adapter(directory, auto_class, config, extra)
    else:
        net = getattr(transformers, auto_class).from_pretrained(directory, use_safetensors=True, **extra)
    if pooling:
        pooled = Pooled(net, pooling, config.num_labels)
        pooled.classifier.load_state_dict(load_file(directory / HEAD))
        net = pooled
    return net.eval()


def reload_adapter(directory: Path, auto_class: str, config: Any, extra: dict[str, Any]) -> nn.Module:
    import transformers
    from peft import PeftConfig, PeftModel

    source = PeftConfig.from_pretrained(str(directory)).base_model_name_or_path
    base = getattr(transformers, auto_class).from_pretrained(
        source,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        **extra,
    )
    return PeftModel.from_pretrained(base, str(directory))


@torch.no_grad()
def difference(model: Model, directory: Path, auto_class: str, batch: dict[str, Any]) -> float:
    """The largest difference of a logit between the network in memory and the one read back, on one batch."""
    with quiet():
        other = reload(directory, auto_class)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
    here, there = model(**inputs), other.to(device)(**inputs).logits
    model.train(was_training)
    return float((here.float() - there.float()).abs().max())
