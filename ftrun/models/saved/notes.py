"""What a card says of a network whose base was rounded, or which no pipeline of transformers has."""

from __future__ import annotations

from typing import Any

from ftrun.models.few_bits.half import KEY as FROZEN
from ftrun.models.few_bits.quantized import HOW
from ftrun.models.few_bits.quantized import KEY as LOADED

ROUNDED = """\
These weights were trained beside the layers of `{base}` at {load}, as bitsandbytes rounds them{how},
and are relative to these rounded layers: on the base in full precision the answers differ. `ftrun predict`
loads them so, and `ftrun merge RUN` makes one network in full precision of the rounded layers and this."""
HALF = """\
These weights were trained beside those of `{base}` rounded to bf16 (train.frozen_dtype=bf16), in which 8
bits of mantissa stay: on the base in fp32 the answers differ by this rounding. `ftrun predict` rounds it
again, and `ftrun merge RUN` makes one network in fp32 of the rounded weights and this."""
POOLED = """\
The head is one linear layer on a text's {pooled}, which sentence-transformers reads and no
text-classification pipeline of transformers has: that one would put fresh weights in its place."""
BESIDE = """\
It is {update} beside its base. Before transformers loads it, it may report that the base's own head is newly
initialized: the trained head comes with it. `ftrun merge RUN` makes one network of both."""
WAYS = {"mean": "mean over all tokens", "cls": "first token"}


def notes_of(config: dict[str, Any], base: str, update: str) -> list[tuple[str, str]]:
    """Sections of a card, heading and text, by the configuration that was saved with a network.

    `update` is what stands beside its base, such as "a LoRA", or nothing.
    """
    found = [(update[0].upper() + update[1:], BESIDE.format(update=update))] if update else []
    if (load := config.get(LOADED)) is not None:
        text = ROUNDED.format(base=base, load=load.replace("bit", " bit"), how=HOW[load])
        found.append(("A base of few bits", text))
    elif update and FROZEN in config:
        found.append(("Frozen weights in bf16", HALF.format(base=base)))
    if (way := config.get("ftrun_pooling")) is not None:
        found.append(("Pooling", POOLED.format(pooled=WAYS[way])))
    return found
