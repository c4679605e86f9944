"""A saved network read back, and how far its answers are from those of the network in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ftrun.errors import ConfigError, counted
from ftrun.models.adapted.beside import Beside
from ftrun.models.adapted.prefixes import Prefixes
from ftrun.models.adapted.prompts import Prompts
from ftrun.models.adapters import Adapters
from ftrun.models.architecture import headless
from ftrun.models.few_bits.half import KEY as FROZEN
from ftrun.models.few_bits.half import in_fp32
from ftrun.models.few_bits.quantized import KEY as LOADED
from ftrun.models.few_bits.quantized import quantize, refuse_unquantizable, round_weights
from ftrun.models.files.locate import Checkpoint
from ftrun.models.files.pretrained import pretrained
from ftrun.models.files.reading import CONFIG, loading, read_config, stored
from ftrun.models.files.sharing import sharing
from ftrun.models.files.stored import halves
from ftrun.models.heads import FILE, Pooled, backbone_of, layers_of, restore
from ftrun.models.image_processor import ImageProcessor, reopen
from ftrun.models.load import quiet, without_pooler
from ftrun.models.logits import Both, logits_of
from ftrun.models.model import Model
from ftrun.models.save import ADAPTER_WEIGHTS, ADAPTERS, PEFT_PREFIX
from ftrun.models.saved.below import lies
from ftrun.models.sentences import longest, read_head
from ftrun.models.tokenizer import fit_inputs, open_tokenizer
from ftrun.runs.artifacts import LORA, LORA_WEIGHTS
from ftrun.runs.manifest import verify

KINDS: dict[str, type[Any]] = {each.kind: each for each in (Adapters, Prompts, Prefixes)}
# What peft puts into names and leaves out of files.
TRAINED = re.compile(r"(\.(?:lora_[AB]|ia3_l|vera_lambda_[bd]))\.default|\.modules_to_save\.default")

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def reload(directory: Path, auto_class: str, in_full: bool = False, trust: bool = False) -> nn.Module:
    """What the directory holds; no other library reads adapters.

    The base of a LoRA is loaded at the few bits that it was trained on, and frozen weights in bf16 where they
    were trained so; `in_full` has the same values in fp32.
    With `trust` Python code that was saved with it may run, as by model.trust_remote_code=true. Raises
    ConfigError, which names the file, where one is missing, damaged or no more what was saved.
    """
    verify(directory)
    config = read_config(directory, trust_remote_code=trust)
    with loading(directory, directory, CONFIG):
        return put_together(directory, config, auto_class, in_full, {"trust_remote_code": trust}).eval()


def processor_of(
    directory: Path, config: PretrainedConfig, images: bool, **trust: bool
) -> PreTrainedTokenizerBase | ImageProcessor | None:
    """What is saved beside a network; None for a task that scales its images itself."""
    if images:
        return reopen(directory, config)
    tokenizer = open_tokenizer(directory, str(directory), **trust)
    fit_inputs(tokenizer, config, str(directory))
    return tokenizer


def put_together(
    directory: Path, config: PretrainedConfig, auto_class: str, in_full: bool, extra: dict[str, Any]
) -> nn.Module:
    pooling = getattr(config, "ftrun_pooling", None)
    if pooling:
        auto_class, extra = headless(config), extra | without_pooler(config)
    if (directory / ADAPTERS).is_file():
        net = reload_beside(directory, auto_class, config, extra)
        if in_full:
            in_fp32(net)
        restore(net, directory)
        return net
    if (directory / "adapter_config.json").is_file():
        net = reload_lora(directory, auto_class, config, extra, in_full)
    else:
        place = Checkpoint(str(directory), {})
        whole = not (directory / FILE).is_file()
        half = halves(place).__contains__ if hasattr(config, FROZEN) and not in_full else None
        net, _ = pretrained(auto_class, place, str(directory), whole, half, **extra)
        restore(net, directory)
    if pooling:
        pooled = Pooled(net, pooling, config.num_labels, longest(directory))
        pooled.to(next(net.parameters()).dtype)
        read_head(pooled, directory)
        net = pooled
    return net


def base_network(
    source: str,
    revision: str | None,
    auto_class: str,
    config: PretrainedConfig,
    extra: dict[str, Any],
    own: set[str],
) -> nn.Module:
    """The checkpoint that something small was trained on, in fp32 and with the head that `config` wants.

    Where its frozen weights were in bf16, all are but its `own`, which are saved apart.
    """
    if Path(source).is_absolute() and not Path(source).is_dir():
        raise ConfigError(f"{source}, the checkpoint below it, is gone; possible: put it back")
    place = Checkpoint(source, {"revision": revision} if revision else {})
    half = (lambda name: name not in own) if hasattr(config, FROZEN) else None
    extra |= {"config": config, "dtype": torch.float32}
    return pretrained(auto_class, place, source, half=half, **extra)[0]


def reload_lora(
    directory: Path, auto_class: str, config: PretrainedConfig, extra: dict[str, Any], in_full: bool
) -> nn.Module:
    from peft import PeftConfig, PeftModel

    with loading(directory, directory, LORA):
        lora = PeftConfig.from_pretrained(str(directory))
        source = lies(directory, lora.base_model_name_or_path)
    with loading(directory, directory, LORA_WEIGHTS), safe_open(directory / LORA_WEIGHTS, "pt") as file:
        own = {name.removeprefix(PEFT_PREFIX) for name in file.keys()}
    base = base_network(source, lora.revision, auto_class, config, extra, own)
    if in_full:
        in_fp32(base)
    restore(base, directory)
    if (load := getattr(config, LOADED, None)) is not None:
        backbone: Any = base.base_model
        layers = layers_of(backbone)
        if in_full:
            round_weights(layers, load)
            config.__dict__.pop(LOADED)
        else:
            refuse_unquantizable(source, layers, load)
            quantize(base, layers, load)
    with loading(directory, directory, LORA_WEIGHTS):
        net = PeftModel.from_pretrained(base, str(directory))
        refuse_missing(net, directory / LORA_WEIGHTS)
    return net


def refuse_missing(net: nn.Module, path: Path) -> None:
    """ConfigError where a layer of a LoRA, or what was trained beside it, is not in its file."""
    with safe_open(path, "pt") as file:
        there = set(file.keys())
    own = [name for name, _ in net.named_parameters() if TRAINED.search(name)]
    lost = [plain for name in own if (plain := TRAINED.sub(r"\1", name)) not in there]
    if lost:
        raise ConfigError(
            f"{path} is damaged: {len(lost):,} of {counted(len(own), 'tensor')} are missing, as {lost[0]}"
        )


def reload_beside(
    directory: Path, auto_class: str, config: PretrainedConfig, extra: dict[str, Any]
) -> nn.Module:
    """The checkpoint that `adapter.json` names, what stands beside it, and what was trained in its place.

    Raises ConfigError when the checkpoint is gone or the file of weights is another network's.
    """
    settings = stored(directory / ADAPTERS)
    with loading(directory, directory, ADAPTERS):
        name, revision = settings.pop("base_model"), settings.pop("revision", None)
        kind = settings.pop("kind", Adapters.kind)
        beside: Beside = KINDS[kind](**settings)
        source = lies(directory, name)
    tensors = load_file(directory / ADAPTER_WEIGHTS)
    own = {name.removeprefix("backbone.") for name in tensors}
    try:
        net = base_network(source, revision, auto_class, config, extra, own)
    except ConfigError as error:
        raise ConfigError(
            f"{directory / ADAPTERS}: base_model={name} cannot be loaded: {error}; a new path can be written"
            " there"
        ) from error
    if hasattr(config, "ftrun_pooling"):
        net = Pooled(net, config.ftrun_pooling, config.num_labels)
    beside.attach(Model(net, None, name, set()))
    missing, unexpected = net.load_state_dict(tensors, strict=False)
    strange = [*unexpected, *(name for name in missing if beside.mark in name)]
    if strange:
        raise ConfigError(f"{directory / ADAPTER_WEIGHTS} does not fit {name}: {strange[0]}")
    return net


def difference(model: Model, directory: Path, auto_class: str, batch: dict[str, Any]) -> float:
    """The largest difference of a logit between the network in memory and the one read back, on one batch.

    In fp32 whatever the precision of training: `model.net` knows nothing of that.
    """
    return shown(model, batch).differ(directory, auto_class, model)


@dataclass
class Shown:
    """What a network in memory made of a batch, with which the one read back is compared."""

    logits: Any
    inputs: dict[str, Tensor]
    asked: dict[str, Any]
    trust: bool

    @torch.no_grad()
    def differ(self, directory: Path, auto_class: str, model: Model) -> float:
        """The largest difference of a logit; what `model` has too, frozen, is not in memory a second time."""
        with quiet(), sharing(model):
            other = reload(directory, auto_class, trust=self.trust)
        here = self.logits
        other.to((here[0] if isinstance(here, Both) else here).device)
        there = logits_of(other, self.inputs, **self.asked)
        pairs = zip(here, there, strict=True) if isinstance(here, Both) else [(here, there)]
        return max(float((one.float() - other.float()).abs().max()) for one, other in pairs)


@torch.no_grad()
def shown(model: Model, batch: dict[str, Any]) -> Shown:
    """The logits of a network for a batch, after which its memory may go."""
    kinds = (model.net, backbone_of(model.net), model.net.config)
    trusted = any(type(each).__module__.startswith("transformers_modules") for each in kinds)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    given = batch["inputs"] | ({"positions": batch["positions"]} if "positions" in batch else {})
    inputs = {name: value.to(device) for name, value in given.items()}
    logits = logits_of(model.net, inputs, **model.asked)
    model.train(was_training)
    return Shown(logits, inputs, model.asked, trusted)
