"""The linear layers of a network by their place in it: those that LoRA and adapters stand beside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

from ftrun.errors import ConfigError, near

if TYPE_CHECKING:
    from ftrun.models.model import Model

# The last linear layer of a layer's attention and of its feed-forward block, by its name within the layer.
ATTENTION_OUTPUTS = {
    "attention.output.dense",  # BERT, RoBERTa, ELECTRA, DeBERTa and relatives
    "attention.out_lin",  # DistilBERT
    "attn.Wo",  # ModernBERT
    "attention.o_proj",  # ViT
    "attn.c_proj",  # GPT-2
    "self_attn.o_proj",  # Llama, Qwen, SmolLM, Mistral and relatives
}
FEED_FORWARD_OUTPUTS = {"output.dense", "ffn.lin2", "mlp.Wo", "mlp.fc2", "mlp.c_proj", "mlp.down_proj"}


def linear_layers(model: Model, targets: list[str] | str) -> list[str]:
    """Full names within `net` of the linear layers meant by attention, all or a list of endings."""
    from transformers.pytorch_utils import Conv1D

    inside = {
        name.removeprefix("net."): model.stage_of(name)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and 0 < model.stage_of(name) <= model.depth
    }
    where = model.name
    if not inside:
        raise ConfigError(
            f"strategy=lora adapts linear layers, and below its head {where} has none;"
            " possible: strategy=full, freeze, norms or linear_probe"
        )
    if targets == "all":
        return list(inside)
    if targets == "attention":
        found = [name for name in inside if re.search(r"\.(\w*attention|\w*attn)\.", name)]
        if not found:
            raise ConfigError(
                f"targets=attention finds no attention projection in {where};"
                " targets=all takes every linear layer"
            )
        return found
    return [name for target in targets for name in matching(target, list(inside))]


def matching(target: str, names: list[str]) -> list[str]:
    found = [name for name in names if name == target or name.endswith("." + target)]
    if not found:
        endings = sorted({name.split(".")[-1] for name in names})
        raise ConfigError(
            f"targets: no linear layer is named {target}; "
            f"there are {', '.join(endings)}{near(target, endings)}"
        )
    return found


def transposed(model: Model) -> bool:
    """Whether the layers are GPT-2's Conv1D, whose weight is (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for layer in model.layers() for module in layer.modules())


def output_layers(model: Model) -> tuple[list[str], list[str]]:
    """Full names within `net` of the linear layers that end each attention and each feed-forward block.

    One of each per layer, from the bottom up; ConfigError for an architecture where they are not known.
    """
    from transformers.pytorch_utils import Conv1D

    layers = model.get_submodule(model.layer_list)
    found = []
    for known in (ATTENTION_OUTPUTS, FEED_FORWARD_OUTPUTS):
        names = [
            f"{model.layer_list.removeprefix('net.')}.{number}.{name}"
            for number, layer in enumerate(layers)
            for name, module in layer.named_modules()
            if name in known and isinstance(module, nn.Linear | Conv1D)
        ]
        if len(names) != model.depth:
            raise ConfigError(
                f"strategy=adapter does not know where adapters go in {model.name}, a "
                f"{type(model.net).__name__}; it does for networks built like BERT, RoBERTa, DistilBERT, "
                "ModernBERT, ViT, GPT-2 or Llama"
            )
        found.append(names)
    return found[0], found[1]
