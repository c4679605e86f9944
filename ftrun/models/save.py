"""A trained network on disk, as plain transformers, peft or sentence-transformers loads it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import Tensor, nn

from ftrun.models import sentences
from ftrun.models.adapted import updates
from ftrun.models.adapted.beside import Beside
from ftrun.models.few_bits.half import kept
from ftrun.models.heads import Pooled, backbone_of, name_of, save_beside, without
from ftrun.models.model import Model
from ftrun.models.saved import below
from ftrun.models.shards import save_weights, write_index
from ftrun.runs.manifest import SEAL

if TYPE_CHECKING:
    from peft import PeftConfig

ADAPTERS = "adapter.json"  # what stands beside which checkpoint
ADAPTER_WEIGHTS = "adapter.safetensors"
PEFT_PREFIX = "base_model.model."
PEFT_TASKS = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    # not QUESTION_ANS for question answering: peft's class for it passes no token types on
    "AutoModelForCausalLM": "CAUSAL_LM",
}


def export(model: Model, directory: Path, auto_class: str) -> None:
    """Write weights, config with label names, and tokenizer; of LoRA and adapters only what was trained.

    LoRA is written in the format of peft, adapters, prompts and prefixes as `adapter.json` and
    `adapter.safetensors`, and beside them the checkpoint that they belong to (`saved/below`). LoRA beside
    random weights is merged into them, since nobody else has these. A pooled network becomes a model of
    sentence-transformers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SEAL).unlink(missing_ok=True)  # of what was there before
    net = model.net
    whole = backbone_of(net) if isinstance(net, Pooled) else net
    if isinstance(net, Pooled):
        net.config.ftrun_pooling = net.pooling
        if not isinstance(model.adapter, Beside):
            sentences.write(net, directory, model.adapter is not None and model.source is not None)
    save_beside(net, directory)
    if model.adapter is None:
        save_shared(model, whole, directory)
    elif isinstance(model.adapter, Beside):
        write_beside(model, model.adapter, directory)
    elif model.source is None:
        save_network(merged(whole), directory)
    else:
        write_updates(model, model.adapter, whole, directory, auto_class)
    net.config.architectures = [type(whole).__name__]  # as save_pretrained does it, which not all have passed
    net.config.save_pretrained(directory)
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(directory)


def save_network(whole: nn.Module, directory: Path) -> None:
    """In the format of transformers, which has no place for a projection."""
    state = whole.state_dict()
    whole.save_pretrained(directory, state_dict={name: state[name] for name in without(state, whole)})


def save_shared(model: Model, whole: nn.Module, directory: Path) -> None:
    """The same, with what stayed as the checkpoint has it shared among the runs of a study."""
    prefix = "net." if whole is model.net else f"net.{name_of(model.net, whole)}."
    brought = [name for name in whole.state_dict() if model.source and prefix + name not in model.fresh]
    save_weights(whole, directory, without(whole.state_dict(), whole), set(brought))


def merged(whole: nn.Module) -> nn.Module:
    """A copy whose low-rank updates are added to the weights they stand beside."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = copy.deepcopy(whole)
    for name, module in list(whole.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            whole.set_submodule(name, module.get_base_layer())
    return whole


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values as safetensors takes them."""
    return {name: kept(value).detach().cpu().contiguous() for name, value in tensors.items()}


def write_beside(model: Model, beside: Beside, directory: Path) -> None:
    """Every trained weight by its name in the network, and beside it what is needed to build the rest.

    There is no index of weights: transformers alone would read the network without what stands beside it.
    """
    own = {**model.trained(), **model.head_buffers()}
    trained = {name.removeprefix("net."): value for name, value in own.items()}
    tensors = {name: trained[name] for name in without(trained, model.net)}
    save_file(on_cpu(tensors), directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    assert model.source is not None  # the strategy refuses random weights
    name = below.named(model.source)
    if not (below.on_hub(model.source) or name.startswith(below.EMBEDDED)):
        below.keep(model.source, model.revision, directory)
    settings = {"kind": beside.kind, **vars(beside), "base_model": name}
    if model.revision is not None:
        settings["revision"] = model.revision
    (directory / ADAPTERS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def write_updates(
    model: Model, update: PeftConfig, whole: nn.Module, directory: Path, auto_class: str
) -> None:
    """The layers by peft and, as its `modules_to_save`, every other trained weight."""
    from peft import IA3Config
    from peft.tuners.tuners_utils import BaseTunerLayer

    prefix = "net." if whole is model.net else f"net.{name_of(model.net, whole)}."
    tensors, modules = {}, set()
    for name, parameter in model.named_parameters():
        if not (parameter.requires_grad or updates.OWN.search(name)):  # of an update no loss may reach a part
            continue
        if name.startswith(prefix) and without([name.removeprefix(prefix)], whole):
            own = name.removeprefix(prefix).replace(".default", "")
            tensors[PEFT_PREFIX + own] = parameter
            if not updates.OWN.search(own):
                modules.add(head_module(own, whole))
    for name, value in whole.state_dict().items():
        if in_one_of(modules, name):  # peft wants them whole: tied and frozen weights, statistics
            tensors.setdefault(PEFT_PREFIX + name, value.clone())
    tensors |= updates.shared(whole)
    save_file(on_cpu(tensors), directory / "adapter_model.safetensors", metadata={"format": "pt"})
    config = copy.deepcopy(update)
    assert model.source is not None  # beside random weights it is merged
    config.base_model_name_or_path, config.revision = below.named(model.source), model.revision
    config.task_type = PEFT_TASKS.get(auto_class) if whole is model.net else "FEATURE_EXTRACTION"
    config.modules_to_save = sorted(modules) or None
    config.inference_mode = True
    layers = {name: module for name, module in whole.named_modules() if isinstance(module, BaseTunerLayer)}
    # full names: peft's shortened ones may fit other networks' layers too
    config.target_modules = sorted(layers)
    if isinstance(config, IA3Config):
        config.feedforward_modules = sorted(name for name, layer in layers.items() if layer.is_feedforward)
    config.save_pretrained(directory)
    if files := below.keep(model.source, model.revision, directory):
        write_index(directory, files)


def in_one_of(modules: set[str], name: str) -> bool:
    """Whether a weight is in a module that peft takes for one of these: every name that ends so."""
    parts = name.split(".")[:-1]
    paths = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return any(path.endswith(tuple(modules)) for path in paths)


def head_module(parameter: str, whole: nn.Module) -> str:
    """The module of `modules_to_save` for a trained weight: a child of the network or its backbone."""
    parts = parameter.split(".")
    prefix = getattr(whole, "base_model_prefix", "")
    return parts[1] if parts[0] == prefix else parts[0]
