"""What a network reads, text or images, to the left or on both sides, and which tasks it cannot have."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

    from ftrun.models.spec import Spec
    from ftrun.settings.schema import ModelSettings

IMAGES = "AutoModelForImageClassification"
ONE_PER_TEXT = "AutoModelForSequenceClassification"
WORDS, SPANS = "AutoModelForTokenClassification", "AutoModelForQuestionAnswering"
PER_TOKEN = (WORDS, SPANS)
LANGUAGE = ("AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModelForPreTraining")
HEADS = {  # what a head of transformers does, for messages
    ONE_PER_TEXT: "a head on whole texts",
    WORDS: "a head on each token",
    SPANS: "a head for the start and end of an answer",
    "AutoModelForMaskedLM": "a head that predicts masked tokens",
    "AutoModelForCausalLM": "a head that predicts the next token",
    IMAGES: "a head on images",
}
WHOLE, ENCODER = "AutoModel", "AutoModelForTextEncoding"  # a network without a head
BOTH_SIDES = ("xlnet",)  # it is trained on permutations, and sees all tokens; transformers lists it as causal
ORDER_LABELS = {"next_sentence_label", "sentence_order_label"}  # of BERT and of ALBERT


def is_decoder(config: PretrainedConfig) -> bool:
    """Whether a network sees only what stands before a token."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    causal = type(config) in AutoModelForCausalLM._model_mapping and config.model_type not in BOTH_SIDES
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


def predicts_order(config: PretrainedConfig) -> bool:
    """Whether a network's pretraining has a head for whether one segment follows another."""
    from transformers import AutoModelForPreTraining

    if type(config) not in AutoModelForPreTraining._model_mapping:
        return False
    network = AutoModelForPreTraining._model_mapping[type(config)]
    return bool(ORDER_LABELS & set(inspect.signature(network.forward).parameters))


def refuse_other_direction(settings: ModelSettings, spec: Spec, config: PretrainedConfig) -> None:
    """ConfigError where the task wants a decoder and the network is none, or the other way round."""
    from transformers import AutoModelForMaskedLM

    decoder = is_decoder(config)
    if spec.auto_class == "AutoModelForCausalLM" and not decoder:
        masked = type(config) in AutoModelForMaskedLM._model_mapping
        raise ConfigError(
            f"task={spec.task} needs a decoder, such as model=gpt2; model.name={settings.name}"
            f" ({config.model_type}) is not one" + ("; possible: task=mlm" if masked else "")
        )
    if spec.auto_class == "AutoModelForMaskedLM" and decoder:
        raise ConfigError(
            f"task={spec.task} needs an encoder, such as model=tiny_bert; model.name={settings.name}"
            f" ({config.model_type}) is a decoder; possible: task=lm"
        )
    if spec.auto_class == "AutoModelForPreTraining" and not predicts_order(config):
        raise ConfigError(
            f"task={spec.task}: task.next= needs a head for pairs of segments, which BERT, ALBERT and their"
            f" relatives have; model.name={settings.name} is a {config.model_type}; possible: task.next=none"
        )
    if settings.pooling == "cls" and decoder:
        raise ConfigError(
            "model.pooling=cls: the first token of a decoder sees no other; possible: head, which takes the"
            " last one, or mean"
        )
    refuse_without_head(settings, spec, config)


def refuse_without_head(settings: ModelSettings, spec: Spec, config: PretrainedConfig) -> None:
    """ConfigError where transformers has no network of this kind with the head that the task needs."""
    name = f"model.name={settings.name} ({config.model_type})"
    if settings.pooling != "head":
        if not poolable(config):
            raise ConfigError(
                f"model.pooling={settings.pooling} needs an encoder that stands alone; transformers has none"
                f" for {name}"
            )
        return
    if is_known(spec.auto_class, config):
        return
    what = HEADS.get(spec.auto_class, spec.auto_class)
    mean = spec.auto_class == ONE_PER_TEXT and poolable(config)
    raise ConfigError(
        f"task={spec.task} needs {what}; transformers has none for {name}"
        + ("; possible: model.pooling=mean" if mean else "")
    )


def is_known(auto_class: str, config: PretrainedConfig) -> bool:
    """Whether there is such a network, in transformers or beside the checkpoint."""
    import transformers

    known = type(config) in getattr(transformers, auto_class)._model_mapping
    return known or auto_class in (getattr(config, "auto_map", None) or {})


def poolable(config: PretrainedConfig) -> bool:
    """Whether there is a network without a head that takes a text; one with a decoder makes its inputs.

    BART and its like shift the encoder's for it; Marian and others want inputs of their own.
    """
    both = getattr(config, "is_encoder_decoder", False) and headless(config) == WHOLE
    return is_known(headless(config), config) and (not both or is_known(ONE_PER_TEXT, config))


def headless(config: PretrainedConfig) -> str:
    """The auto class of a network without a head, whose states are pooled: of T5 and its like the encoder."""
    from transformers import AutoModel, AutoModelForTextEncoding

    alone, kind = AutoModelForTextEncoding._model_mapping, type(config)
    return ENCODER if kind in alone and alone[kind] is not AutoModel._model_mapping[kind] else WHOLE


def refuse_other_inputs(settings: ModelSettings, spec: Spec, config: PretrainedConfig) -> None:
    """ConfigError when the network does not read what the task has: text, or images of its shape."""
    import transformers

    images = type(config) in getattr(transformers, IMAGES)._model_mapping
    own = getattr(transformers, spec.auto_class)._model_mapping
    fits = type(config) in own or spec.auto_class in getattr(config, "auto_map", {})
    kind, other = ("images", "text") if spec.auto_class == IMAGES else ("text", "images")
    if not fits and images != (kind == "images"):
        instead = "; model=mlp and model=cnn_small read images" if kind == "images" else ""
        raise ConfigError(
            f"task={spec.task} needs a network for {kind}, model.name={settings.name} reads {other}{instead}"
        )
    if kind == "images" and settings.pooling != "head":
        raise ConfigError(f"model.pooling={settings.pooling} is for text; images take model.pooling=head")
    if settings.pooling != "head" and spec.auto_class in (*PER_TOKEN, *LANGUAGE):
        raise ConfigError(
            f"model.pooling={settings.pooling} makes one vector of a text; task={spec.task} needs one for"
            " each token: model.pooling=head"
        )
    if spec.auto_class == SPANS:
        refuse_one_way(settings, spec, config)
    shape = getattr(spec.inputs, "shape", None)
    if shape is not None and (taken := shape_of(config)) not in (None, shape):
        raise ConfigError(
            f"task={spec.task} has images of {by(shape)}, model.name={settings.name} takes {by(taken)}"
        )


def refuse_one_way(settings: ModelSettings, spec: Spec, config: PretrainedConfig) -> None:
    """ConfigError where the answer is a span and the network reads in one direction."""
    if is_decoder(config):
        raise ConfigError(
            f"task={spec.task} needs an encoder, which sees what comes after a word;"
            f" model.name={settings.name} ({config.model_type}) is a decoder"
        )


def shape_of(config: PretrainedConfig) -> tuple[Any, ...] | None:
    """Channels, height and width of the images that a network takes, None where it does not say."""
    channels, size = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    if channels is None or size is None:
        return None
    return (channels, size, size) if isinstance(size, int) else (channels, *size)


def by(shape: Any) -> str:
    return " x ".join(map(str, shape))
