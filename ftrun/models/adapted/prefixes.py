"""Prefixes: keys and values in front of a text's in every layer (Li & Liang 2021, Liu et al. 2022)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ftrun.errors import ConfigError
from ftrun.models.adapted.beside import Beside
from ftrun.models.layers import KEYS_AND_VALUES, attention_blocks, is_linear

if TYPE_CHECKING:
    from ftrun.models.model import Model

WAY = "sdpa"  # of computing attention, the default of transformers
TOGETHER = ("Wqkv", "query_key_value", "c_attn", "qkv", "in_proj")  # queries, keys and values in one layer
STD = 0.02  # of the start, as of transformers' own weights


@dataclass
class Prefixes(Beside):
    """So many keys and values for each block of attention, at no position, to which every token attends.

    P-tuning v2 (Liu et al. 2022) trains them directly, as here; Li & Liang (2021) through a network that
    makes them. They start as normal draws of deviation 0.02.
    """

    kind: ClassVar[str] = "prefix"
    mark: ClassVar[str] = ".prefix_"

    tokens: int

    def attach(self, model: Model) -> None:
        blocks = blocks_of(model)
        if not isinstance(functions()[WAY], partial):
            functions()[WAY] = partial(with_prefix, functions()[WAY])
        for block, width in blocks:
            like = next(block.parameters())
            for name in ("prefix_keys", "prefix_values"):
                start = torch.empty(self.tokens, width, device=like.device).normal_(std=STD)
                block.register_parameter(name, nn.Parameter(start))


def functions() -> Any:
    """The ways to compute attention that transformers knows, by name."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS


def blocks_of(model: Model) -> list[tuple[nn.Module, int]]:
    """The modules that compute attention, and the width of their keys; ConfigError where none is known."""
    found: dict[str, int] = {}
    for place in attention_blocks(model):
        for name, module in model.net.get_submodule(place).named_modules(prefix=place):
            own = name.rpartition(".")
            if own[2] in KEYS_AND_VALUES and is_linear(module):
                wide = module.weight.shape[1 if type(module).__name__ == "Conv1D" else 0]
                found.setdefault(own[0], wide // 3 if own[2] in TOGETHER else wide)
    blocks = [(model.net.get_submodule(name), width) for name, width in found.items()]
    way = getattr(model.net.config, "_attn_implementation", None)
    if not blocks or way != WAY or not all(uses_functions(block) for block, _ in blocks):
        raise ConfigError(
            f"strategy=prefix gives attention more keys and values, and that of {model.name}, a"
            f" {type(model.net).__name__}, {'takes none' if blocks else 'is not known'};"
            " possible: strategy=lora, bitfit or norms"
        )
    return blocks


def uses_functions(block: nn.Module) -> bool:
    """Whether its file computes attention by one of these functions."""
    return hasattr(sys.modules[type(block).__module__], "ALL_ATTENTION_FUNCTIONS")


def with_prefix(
    plain: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **more: Any,
) -> Any:
    """Attention (batch, heads, tokens, width) to the prefix of the module, where it has one, and the rest."""
    if (keys := getattr(module, "prefix_keys", None)) is None:
        return plain(module, query, key, value, attention_mask, **more)
    tokens = len(keys)
    asked = more.get("is_causal")
    causal = getattr(module, "is_causal", True) if asked is None else asked
    if attention_mask is None and causal and query.shape[2] > 1:
        shape = query.shape[2], key.shape[2]
        attention_mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()[None, None]
    if attention_mask is not None:
        seen = True if attention_mask.dtype == torch.bool else 0.0
        attention_mask = nn.functional.pad(attention_mask, (tokens, 0), value=seen)
    if isinstance(bias := more.get("position_bias"), Tensor):
        more["position_bias"] = nn.functional.pad(bias, (tokens, 0))
    key, value = in_front(keys, key), in_front(module.prefix_values, value)
    return plain(module, query, key, value, attention_mask, **more)


def in_front(prefix: Any, states: Tensor) -> Tensor:
    """A prefix (tokens, heads · width) in front of (batch, heads, tokens, width)."""
    batch, heads, _, width = states.shape
    own = prefix.to(states.dtype).view(len(prefix), heads, width).transpose(0, 1)
    return torch.cat([own.expand(batch, -1, -1, -1), states], 2)
