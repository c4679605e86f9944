"""The layers of a network by their place in it: those that LoRA and adapters stand beside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

from ftrun.errors import ConfigError, near

if TYPE_CHECKING:
    from ftrun.models.model import Model

# The last linear layer of an attention block, by its name within that block.
ATTENTION_OUTPUTS = {
    "output.dense",  # BERT, RoBERTa, ELECTRA, DeBERTa, Longformer and relatives
    "out_lin",  # DistilBERT, XLM
    "Wo",  # ModernBERT
    "o_proj",  # ViT, DINOv2, Swin, Llama, Qwen, SmolLM, Mistral and relatives
    "c_proj",  # GPT-2
    "dense",  # ALBERT, BLOOM, Falcon, GPT-NeoX, Phi
    "out_proj",  # BART, mBART, OPT, GPT-J, CodeGen
    "post_proj",  # Funnel
    "attn.o",  # MPNet
    "attention.out_proj",  # GPT-Neo
    "SelfAttention.o",  # T5
    "EncDecAttention.o",
}
# That of a feed-forward block, by its name within its layer.
FEED_FORWARD_OUTPUTS = {
    "output.dense", "ffn.lin2", "lin2", "mlp.Wo", "mlp.fc2", "mlp.c_proj", "mlp.down_proj", "ffn_output",
    "fc2", "mlp.dense_4h_to_h", "mlp.fc_out", "ffn.linear_2", "ff.layer_2", "DenseReluDense.wo",
}  # fmt: skip
# Linear layers that make keys and values, by their last name within a block of attention.
KEYS_AND_VALUES = {
    "key", "value", "k", "v", "k_lin", "v_lin", "k_proj", "v_proj", "key_proj", "value_proj", "k_head",
    "v_head", "key_global", "value_global", "Wqkv", "query_key_value", "c_attn", "qkv", "in_proj",
}  # fmt: skip
BESIDE = "adapter stands behind the linear layer that ends a block"
SCALES = "ia3 scales the linear layers of a block"
INNER_LISTS = re.compile(r"^(?:(?:\w+\.)?\d+\.)+")  # before a name within a block of a layer


def adaptable(module: nn.Module) -> bool:
    """Whether peft can put a low-rank update beside it and add it to its weight.

    Linear layers, and convolutions over all channels: of grouped ones it cannot be added to the weight, and
    of dilated ones peft forgets the dilation.
    """
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Linear | Conv1D):
        return True
    plain = type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return plain and module.groups == 1 and {*module.dilation} == {1} and module.padding_mode == "zeros"


def adapted_layers(
    model: Model, targets: list[str] | str, linear: bool = False, strategy: str = "lora"
) -> list[str]:
    """Full names within `net` of the layers meant by attention, all or a list of endings.

    attention is every linear layer in a block of attention, and of a network that has no attention all. With
    `linear` there are no convolutions. Raises ConfigError where a target has no layer.
    """
    asked = getattr(model.net.config, "tf_padding", False)
    linear = linear or asked
    inside = {
        name.removeprefix("net."): module
        for name, module in model.named_modules()
        if 0 < model.stage_of(name) <= model.depth
        and adaptable(module)
        and not (linear and is_convolution(module))
    }
    kinds = "linear layers" if linear else "linear layers and convolutions"
    if not inside:
        raise ConfigError(
            f"strategy={strategy} adapts {kinds}, and the layers of {model.name} have none"
            + ("; its convolutions are asked for their stride, which peft's have not" if asked else "")
            + "; possible: strategy=full, freeze, norms or linear_probe"
        )
    if targets == "all" or (targets == "attention" and not has_attention(model)):
        return list(inside)
    if targets == "attention":
        blocks = tuple(f"{name}." for name in attention_blocks(model))
        found = [name for name, module in inside.items() if name.startswith(blocks)]
        found = [name for name in found if not is_convolution(inside[name])]
        if not found:
            raise ConfigError(
                f"targets=attention: no linear layer is part of the attention of {model.name};"
                " possible: targets=all"
            )
        return found
    return [name for target in targets for name in matching(target, list(inside))]


def is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd)


def has_attention(model: Model) -> bool:
    return next(attention_blocks(model), None) is not None


def attention_blocks(model: Model) -> Iterator[str]:
    """Full names within `net` of the blocks of attention, by class or name; none inside another."""
    last = None
    for stage in range(1, model.depth + 1):
        for place in model.layer_names[stage]:
            for own, module in model.get_submodule(place).named_modules(prefix=place.removeprefix("net.")):
                inner = last is not None and own.startswith(f"{last}.")
                if not inner and is_attention(own.rpartition(".")[2], module):
                    last = own
                    yield own


def is_attention(name: str, module: nn.Module) -> bool:
    """Whether a module is a block of attention; one of channels, as RegNet's, has convolutions alone."""
    if "attention" in type(module).__name__.lower():
        return True
    named = re.fullmatch(r"\w*(attention|attn)", name, re.IGNORECASE)
    return named is not None and any(map(is_linear, module.modules()))


def matching(target: str, names: list[str]) -> list[str]:
    found = [name for name in names if name == target or name.endswith("." + target)]
    if not found:
        endings = sorted({name.split(".")[-1] for name in names})
        raise ConfigError(
            f"targets: no linear layer or convolution is named {target}; "
            f"there are {', '.join(endings)}{near(target, endings)}"
        )
    return found


def transposed(model: Model) -> bool:
    """Whether the layers are GPT-2's Conv1D, whose weight is (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def output_layers(model: Model, placement: str, does: str = BESIDE) -> list[str]:
    """Full names within `net` of the linear layers that end the blocks behind which adapters stand.

    houlsby: each attention and each feed-forward block; pfeiffer: the feed-forward blocks. ConfigError for an
    architecture of which they are not known, one for each attention and at least one for each layer.
    """
    blocks = list(attention_blocks(model))
    found: list[str] = []
    for stage in range(1, model.depth + 1):
        ends: list[str] = []
        for place in model.layer_names[stage]:
            start = place.removeprefix("net.")
            for own, module in model.get_submodule(place).named_modules():
                name = f"{start}.{own}" if own else start
                if is_linear(module) and not name.startswith(tuple(f"{block}." for block in blocks)):
                    ends += [name] if INNER_LISTS.sub("", own) in FEED_FORWARD_OUTPUTS else []
        if not ends:
            raise unknown(model, "feed-forward", does)
        found += ends
    return found if placement == "pfeiffer" else [*attention_outputs(model, blocks), *found]


def attention_outputs(model: Model, blocks: list[str]) -> list[str]:
    """The last linear layer of each block of attention."""
    found = []
    for block in blocks:
        inner = model.net.get_submodule(block).named_modules()
        own = [name for name, module in inner if name in ATTENTION_OUTPUTS and is_linear(module)]
        if len(own) != 1:
            raise unknown(model, "attention")
        found.append(f"{block}.{own[0]}")
    if not found:
        raise unknown(model, "attention")
    return found


def is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def scaled_layers(model: Model) -> tuple[list[str], list[str]]:
    """Full names within `net` of the layers of which (IA)³ scales the outputs, and of those whose inputs.

    Those make keys and values, these end feed-forward blocks. ConfigError where they are not known.
    """
    found = []
    for block in attention_blocks(model):
        inner = model.net.get_submodule(block).named_modules()
        own = [name for name, m in inner if name.rpartition(".")[2] in KEYS_AND_VALUES and is_linear(m)]
        if not own:
            raise unknown(model, "keys and values", SCALES)
        found += [f"{block}.{name}" for name in own]
    if not found:
        raise unknown(model, "attention", SCALES)
    return found, output_layers(model, "pfeiffer", SCALES)


def unknown(model: Model, block: str, does: str = BESIDE) -> ConfigError:
    instead = "placement=pfeiffer, " if block == "attention" and does is BESIDE else ""
    return ConfigError(
        f"strategy={does}, and in {model.name}, a {type(model.net).__name__}, none is known of {block};"
        f" possible: {instead}strategy=lora, bitfit or norms"
    )
