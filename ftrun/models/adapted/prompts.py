"""Soft prompts: vectors in front of those of a text's tokens (Lester et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ftrun.errors import ConfigError
from ftrun.models.adapted.beside import Beside
from ftrun.models.heads import backbone_of

if TYPE_CHECKING:
    from ftrun.models.model import Model

POOLERS = ("pooler",)  # what reads the first of a text's vectors inside of a backbone


@dataclass
class Prompts(Beside):
    """So many vectors, which go through the network as the embeddings of further tokens would.

    They stand in front, at the first positions, and what leaves the network is that of the text's own tokens,
    so that a head reads where it always reads. They start as the embeddings of random tokens.
    """

    kind: ClassVar[str] = "prompt"
    mark: ClassVar[str] = ".prompt_vectors"

    tokens: int

    @property
    def front(self) -> int:
        return self.tokens

    def attach(self, model: Model) -> None:
        backbone = backbone_of(model.net)
        embeddings = embeddings_in(model)
        words = embeddings.weight.detach()
        chosen = torch.randint(len(words), (self.tokens,))
        vectors = words[chosen.to(words.device)].clone().float()
        embeddings.register_parameter(self.mark[1:], nn.Parameter(vectors))
        backbone.register_forward_pre_hook(partial(put_in_front, embeddings), with_kwargs=True)
        backbone.register_forward_hook(partial(taken_off, self.tokens), with_kwargs=True)
        for name in POOLERS:
            if isinstance(pooler := getattr(backbone, name, None), nn.Module):
                pooler.register_forward_pre_hook(partial(before_pooling, self.tokens))


def embeddings_in(model: Model) -> nn.Embedding:
    """The embeddings of tokens; ConfigError for a network that reads none, or a text twice."""
    if getattr(model.net.config, "is_encoder_decoder", False):
        raise ConfigError(
            f"strategy=prompt puts vectors in front of a text, and {model.name} reads it in an encoder and a"
            " decoder; possible: strategy=prefix, lora or bitfit"
        )
    try:
        found = backbone_of(model.net).get_input_embeddings()
    except (AttributeError, NotImplementedError):
        found = None
    if not isinstance(found, nn.Embedding):
        raise ConfigError(
            f"strategy=prompt puts vectors in front of those of tokens, and {model.name} has no embeddings of"
            " tokens; possible: strategy=prefix, lora or bitfit"
        )
    return found


def put_in_front(
    embeddings: nn.Embedding, backbone: nn.Module, args: tuple[Any, ...], given: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a backbone takes, with the prompt in front of each text."""
    named = dict(zip(("input_ids", "attention_mask", "token_type_ids"), args, strict=False)) | given
    ids: Tensor = named.pop("input_ids")
    prompt: Any = embeddings.prompt_vectors
    words = embeddings(ids)
    front = prompt.to(words.dtype).expand(len(ids), -1, -1)
    named["inputs_embeds"] = torch.cat([front, words], 1)
    for name, own in named.items():
        if isinstance(own, Tensor) and own.shape == ids.shape:
            named[name] = nn.functional.pad(own, (len(prompt), 0), value=int(name == "attention_mask"))
    return (), named


def taken_off(
    tokens: int, backbone: nn.Module, args: tuple[Any, ...], given: dict[str, Any], found: Any
) -> Any:
    """What a backbone makes of the text's own tokens; ConfigError where it is not one vector for each."""
    made, read = found.last_hidden_state.shape[1], given["inputs_embeds"].shape[1]
    if made != read:
        raise ConfigError(
            f"strategy=prompt: a {type(backbone).__name__} makes {made} vectors of {read} tokens, among which"
            " those of the prompt are not known; possible: strategy=lora or bitfit"
        )
    found.last_hidden_state = found.last_hidden_state[:, tokens:]
    return found


def before_pooling(tokens: int, pooler: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The states of a text's own tokens for a pooler that is given those of all."""
    states, *more = args
    return (states[:, tokens:] if states.ndim == 3 else states, *more)
