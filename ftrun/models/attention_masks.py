"""The attention mask of a batch, by which a GPU's kernel does not depend on what the batch holds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("sdpa", "eager")  # the ways to compute attention that transformers builds a mask for


def always_given() -> None:
    """Give attention that sees both ways the mask that it is passed, also where nothing is padded.

    transformers leaves such a mask out, for which it waits for the GPU in every forward pass, and attention
    then takes another kernel with another rounding; in a CUDA graph it always builds it.
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


def given(known: Callable[..., Any], *args: Any, attention_mask: Any = None, **options: Any) -> Any:
    """What a mask function of transformers builds, of a mask that there is without looking into it."""
    if attention_mask is not None:
        options["allow_is_bidirectional_skip"] = False
    return known(*args, attention_mask=attention_mask, **options)
