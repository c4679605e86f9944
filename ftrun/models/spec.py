"""All that a network must know of a task: its inputs, its head, and the texts of a tokenizer made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TextInput:
    """Texts of at most so many tokens, and the setting that says so."""

    max_length: int
    setting: str = "task.max_length"

    unit = "tokens"


@dataclass(frozen=True)
class ImageInput:
    """Images scaled by the network's image processor, or of a shape that the task fixes and scales itself."""

    size: int | None = None  # pixels of a side; None: as the network has it
    channels: int | None = None
    shape: tuple[int, int, int] | None = None  # channels, height, width

    unit = "images"


@dataclass(frozen=True)
class TokenizerTexts:
    """What a tokenizer is trained on where the task wants one, or the checkpoint brings none."""

    texts: Callable[[], Iterable[str]]
    vocabulary: int  # tokens
    masking: bool  # with the special tokens of BERT
    wanted: bool | None  # None: only where the checkpoint brings none


@dataclass(frozen=True)
class Spec:
    """What loading a network needs of a task. `config` and `labels` are known once the rows are read."""

    task: str  # its name, for messages
    auto_class: str  # the transformers class that brings the network and its head
    inputs: TextInput | ImageInput
    config: dict[str, Any] = field(default_factory=dict)  # of the head: num_labels, id2label, …
    new_head: bool = True  # no checkpoint brings this head
    labels: tuple[str, ...] | None = None  # of a head that tasks can share, () if not known; None: not shared
    projection: tuple[int | None, int] | None = None  # of contrastive learning: hidden units, width
    tokenizer: TokenizerTexts | None = None
    # each example is one fixed vector to the head, and the loss that of a logistic or linear regression
    regression: bool = False
    windows: bool = False  # a text may be read in several, which have one answer together


def label_config(names: tuple[str, ...] | list[str], **more: Any) -> dict[str, Any]:
    """What a network's configuration says of a head with these outputs."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        **more,
    }
