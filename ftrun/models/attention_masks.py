"""The attention mask of a batch: what a GPU's kernel and a network's ALiBi make of it."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

NAMES = ("sdpa", "eager")  # the ways to compute attention that transformers builds a mask for


def always_given() -> None:
    """Give attention the mask that it is passed, also where nothing is padded.

    transformers leaves such a mask out, for which it waits for the GPU in every forward pass, and attention
    then takes another kernel with another rounding; in a CUDA graph it always builds it. Where no mask is
    passed, it looks at nothing.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    for name in NAMES:
        known = ALL_MASK_ATTENTION_FUNCTIONS[name]
        if not isinstance(known, partial):
            ALL_MASK_ATTENTION_FUNCTIONS[name] = partial(given, known)


def as_transformers_has_them() -> None:
    """Undo `always_given`."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    for name in NAMES:
        known = ALL_MASK_ATTENTION_FUNCTIONS[name]
        if isinstance(known, partial):
            ALL_MASK_ATTENTION_FUNCTIONS[name] = known.args[0]


def keep_apart(net: nn.Module) -> None:
    """Have a network with ALiBi (BLOOM, Falcon) take a mask that keeps the documents of a block apart."""
    kind = net.config.model_type
    module: Any = sys.modules.get(f"transformers.models.{kind}.modeling_{kind}")
    known = getattr(module, "build_alibi_tensor", None)
    if known is not None and not isinstance(known, partial):
        module.build_alibi_tensor = partial(distances, known)


def distances(known: Callable[..., Tensor], attention_mask: Tensor, *args: Any, **options: Any) -> Tensor:
    """ALiBi for a mask of (batch, 1, length, length): only distances count, which a block's positions have.

    Press et al. 2022 add a bias that is linear in the distance; transformers builds it from the place of
    each token in a mask of (batch, length).
    """
    if attention_mask.ndim == 4:
        attention_mask = torch.ones_like(attention_mask[:, 0, 0], dtype=torch.long)
    return known(attention_mask, *args, **options)


def given(known: Callable[..., Any], *args: Any, attention_mask: Any = None, **options: Any) -> Any:
    """What a mask function of transformers builds, of a mask that there is without looking into it."""
    if attention_mask is not None:
        options |= {"allow_is_bidirectional_skip": False, "allow_is_causal_skip": False}
    return known(*args, attention_mask=attention_mask, **options)
