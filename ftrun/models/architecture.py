"""Which networks model language, from the left alone or from both sides, and what fits neither."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError

ORDER_LABELS = {"next_sentence_label", "sentence_order_label"}  # of BERT and of ALBERT

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

    from ftrun.models.small import Task
    from ftrun.settings.schema import ModelSettings


def is_decoder(config: PretrainedConfig) -> bool:
    """Whether a network sees only what stands before a token."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    causal = type(config) in AutoModelForCausalLM._model_mapping
    return causal and (
        getattr(config, "is_decoder", False) or type(config) not in AutoModelForMaskedLM._model_mapping
    )


def is_language_model(net: nn.Module) -> bool:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForPreTraining

    return any(
        isinstance(net, auto._model_mapping[type(net.config)])
        for auto in (AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForPreTraining)
        if type(net.config) in auto._model_mapping
    )


def tells_order(config: PretrainedConfig) -> bool:
    """Whether a network's pretraining has a head that says if one segment follows another."""
    from transformers import AutoModelForPreTraining

    if type(config) not in AutoModelForPreTraining._model_mapping:
        return False
    network = AutoModelForPreTraining._model_mapping[type(config)]
    return bool(ORDER_LABELS & set(inspect.signature(network.forward).parameters))


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
    if task.auto_class == "AutoModelForPreTraining" and not tells_order(config):
        raise ConfigError(
            f"task={task.name}: task.next= needs a head for pairs of segments, which BERT, ALBERT and their"
            f" relatives have; model.name={settings.name} is a {config.model_type}; possible: task.next=none"
        )
    if settings.pooling == "cls" and decoder:
        raise ConfigError(
            "model.pooling=cls: the first token of a decoder sees no other; possible: head, which takes the"
            " last one, or mean"
        )
