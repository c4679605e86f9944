"""Which networks model language, from the left alone or from both sides, and what fits neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

    from ftrun.config import ModelSettings
    from ftrun.networks.small import Task


def is_decoder(config: PretrainedConfig) -> bool:
    """Whether a network sees only what stands before a token."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    causal = type(config) in AutoModelForCausalLM._model_mapping
    return causal and (
        getattr(config, "is_decoder", False) or type(config) not in AutoModelForMaskedLM._model_mapping
    )


def is_language_model(net: nn.Module) -> bool:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    return any(
        isinstance(net, auto._model_mapping[type(net.config)])
        for auto in (AutoModelForCausalLM, AutoModelForMaskedLM)
        if type(net.config) in auto._model_mapping
    )


def refuse_other_direction(settings: ModelSettings, task: Task, config: PretrainedConfig) -> None:
    """ConfigError where the task wants a decoder and the network is none, or the other way round."""
    decoder = is_decoder(config)
    if task.auto_class == "AutoModelForCausalLM" and not decoder:
        raise ConfigError(
            f"task={task.name} needs a decoder, such as model=gpt2; model.name={settings.name}, a"
            f" {config.model_type}, is none; possible: task=mlm"
        )
    if task.auto_class == "AutoModelForMaskedLM" and decoder:
        raise ConfigError(
            f"task={task.name} needs an encoder, such as model=tiny_bert; model.name={settings.name}, a"
            f" {config.model_type}, is a decoder; possible: task=lm"
        )
    if settings.pooling == "cls" and decoder:
        raise ConfigError(
            "model.pooling=cls: the first token of a decoder sees no other; possible: head, which takes the"
            " last one, or mean"
        )
