"""The attention mask of a batch, by which a GPU's kernel does not depend on what the batch holds."""

from __future__ import annotations

from typing import Any

NAME = "sdpa"  # torch's scaled_dot_product_attention, which transformers chooses by default


def always_given() -> None:
    """Give attention that sees both ways the mask that it is passed, also where nothing is padded.

    transformers leaves such a mask out, for which it waits for the GPU in every forward pass, and attention
    then takes another kernel with another rounding; under CUDA graphs it always builds it.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

    def given(*args: Any, attention_mask: Any = None, **options: Any) -> Any:
        if attention_mask is not None:
            options["allow_is_bidirectional_skip"] = False
        return sdpa_mask(*args, attention_mask=attention_mask, **options)

    ALL_MASK_ATTENTION_FUNCTIONS[NAME] = given


def as_transformers_has_them() -> None:
    """Undo `always_given`."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

    ALL_MASK_ATTENTION_FUNCTIONS[NAME] = sdpa_mask
