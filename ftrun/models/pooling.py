"""How model.pooling=auto makes one vector of a text: as the checkpoint was trained, by its files alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import nn

from ftrun.data.hub import REACH, unreachable, within_patience
from ftrun.models.architecture import ONE_PER_TEXT, is_decoder
from ftrun.models.files.reading import CONFIG, loading
from ftrun.models.files.stored import shapes
from ftrun.models.locate import Checkpoint, locate
from ftrun.models.sentences import stated

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from ftrun.models.spec import Spec
    from ftrun.settings.schema import ModelSettings


def resolved(settings: ModelSettings, spec: Spec) -> ModelSettings:
    """The settings with the pooling that `pooling_of` finds."""
    return replace(settings, pooling=pooling_of(settings, spec)[0])


def pooling_of(settings: ModelSettings, spec: Spec) -> tuple[str, str]:
    """head, cls or mean, and why it is so; the reason is empty where nothing needs to be said.

    What the settings say, stands. Under auto, a task that wants one answer for a text takes, of pretrained
    weights, what the checkpoint's files for sentence-transformers say, else what the run that saved it had,
    else the mean where the architecture's head uses a pooler of which the checkpoint has no weights, else the
    architecture's own head. Everything else has that head. Raises ConfigError as `locate` does.
    """
    if settings.pooling != "auto":
        return settings.pooling, ""
    if spec.auto_class != ONE_PER_TEXT or settings.init == "random":
        return "head", ""
    checkpoint = locate(settings)
    config = checkpoint.config({})
    unknown = ""
    try:
        if (said := stated(checkpoint.file)) is not None:
            return as_stated(*said, is_decoder(config))
    except unreachable():
        unknown = "since the Hub cannot be asked how the checkpoint pools; to set it: model.pooling=mean"
    if former := getattr(config, "ftrun_pooling", None):
        return former, "as the run had it that saved this checkpoint"
    if not is_decoder(config) and (lacking := missing_pooler(settings, checkpoint, config)):
        return "mean", f"as the checkpoint has no weights of the pooler in {lacking}"
    return "head", unknown


def as_stated(way: str, file: str, decoder: bool) -> tuple[str, str]:
    """What sentence-transformers calls `way`, among what there is here: the mean for what there is not."""
    if decoder and way == "lasttoken":
        return "head", ""  # that of a decoder is on the last token
    if way == "mean" or (way == "cls" and not decoder):
        return way, f"as the checkpoint's {file} says"
    return "mean", f"since there is no {way}, as the checkpoint's {file} says"


def missing_pooler(settings: ModelSettings, checkpoint: Checkpoint, config: PretrainedConfig) -> str:
    """The class whose head stands on a pooler of which the checkpoint has no weights, "" if there is none.

    A head that is new by design, such as RoBERTa's and DistilBERT's, has no pooler below it.
    """
    import transformers

    auto = getattr(transformers, ONE_PER_TEXT)
    if type(config) not in auto._model_mapping:
        return ""
    with torch.device("meta"), loading(checkpoint.label, checkpoint.name, CONFIG):
        net = auto.from_config(config, trust_remote_code=settings.trust_remote_code)
    pooler = getattr(net.base_model, "pooler", None)
    own = pooler.named_parameters() if isinstance(pooler, nn.Module) else []
    wanted = [f".pooler.{name}" for name, _ in own]
    found = weights_in(checkpoint) if wanted else None
    if found is None or all(any(f".{name}".endswith(end) for name in found) for end in wanted):
        return ""
    return type(net).__name__


def weights_in(checkpoint: Checkpoint) -> set[str] | None:
    """The names of a checkpoint's weights, of which none is read; None where they cannot be known."""
    found = shapes(checkpoint)
    if found is not None:
        return set(found)
    refusals = (SafetensorError,) + unreachable()
    try:
        return None if Path(checkpoint.name).is_dir() else on_hub(checkpoint)
    except refusals:
        return None


def on_hub(checkpoint: Checkpoint) -> set[str]:
    """The same from the Hub, which sends the names alone."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    revision = checkpoint.options.get("revision")
    ask = HfApi().get_safetensors_metadata
    try:
        found = within_patience(lambda: ask(checkpoint.name, revision=revision, timeout=REACH))
    except (NotASafetensorsRepoError, SafetensorsParsingError) as error:  # loading it says what is wrong
        raise SafetensorError(str(error)) from None
    return set(found.weight_map)
