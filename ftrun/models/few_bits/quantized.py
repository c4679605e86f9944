"""Frozen layers at few bits, by bitsandbytes: model.load=8bit and 4bit (Dettmers et al. 2022, 2023)."""

from __future__ import annotations

import logging
import math
from typing import Any

from torch import nn

from ftrun.errors import ConfigError, needs

KEY = "ftrun_load"  # in the configuration of a saved adapter: how its base was loaded
HOW = {"4bit": " (nf4, double quantization)", "8bit": " (LLM.int8)"}


def refuse_unquantizable(name: str, layers: nn.Module, load: str) -> None:
    """ConfigError where bitsandbytes is not installed, or a network has no linear layers to be rounded."""
    needs(f"model.load={load}", "quantized", "bitsandbytes")
    if not linear_layers(layers):
        raise ConfigError(
            f"model.load={load} rounds linear layers, and those of {name} are no torch.nn.Linear;"
            " possible: model.load=full"
        )


def quantize(net: Any, layers: nn.Module, load: str) -> None:
    """Put layers of bitsandbytes in the place of the linear ones among a network's `layers`.

    They are rounded when the network is first moved, also from CPU to CPU. 4bit is nf4 with its scales
    rounded as well (Dettmers et al. 2023, QLoRA), 8bit LLM.int8 (Dettmers et al. 2022).
    """
    for name, layer in linear_layers(layers).items():
        layers.set_submodule(name, rounded(layer, load))
    net.is_loaded_in_4bit, net.is_loaded_in_8bit = load == "4bit", load == "8bit"  # peft looks there
    setattr(net.config, KEY, load)


def linear_layers(layers: nn.Module) -> dict[str, nn.Linear]:
    """By their names."""
    return {name: module for name, module in layers.named_modules() if isinstance(module, nn.Linear)}


def rounded(layer: nn.Linear, load: str) -> nn.Module:
    from bitsandbytes import nn as bits

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every product that is cast
    shape, biased = (layer.in_features, layer.out_features), layer.bias is not None
    made: Any
    if load == "4bit":
        made = bits.Linear4bit(*shape, bias=biased, quant_type="nf4", compress_statistics=True)
        made.weight = bits.Params4bit(
            layer.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True, module=made
        )
    else:
        made = bits.Linear8bitLt(*shape, bias=biased, has_fp16_weights=False)
        made.weight = bits.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    made.bias = layer.bias
    made.support_avx512bf16_for_cpu = False  # it would pack the weights for answers, and lose gradients then
    return made


def round_weights(layers: nn.Module, load: str) -> None:
    """Linear layers in fp32 with the values that quantized ones stand for."""
    from peft.utils.integrations import dequantize_bnb_weight

    for layer in linear_layers(layers).values():
        bits: Any = rounded(layer, load).to("cpu")
        layer.weight.data = dequantize_bnb_weight(bits.weight, bits.state if load == "8bit" else None).float()


def size_of(parameter: nn.Parameter) -> int:
    """How many numbers a parameter stands for; two of them share a byte in 4 bits."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)
