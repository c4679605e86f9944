"""Low-rank updates as values: read from runs, compared by their base, summed exactly or as peft does."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ftrun.errors import ConfigError
from ftrun.models.architecture import headless
from ftrun.models.files.reading import loading, read_config, stored
from ftrun.models.heads import name_of
from ftrun.models.load import quiet, without_pooler
from ftrun.models.reload import base_network
from ftrun.models.save import PEFT_PREFIX
from ftrun.models.saved.below import lies
from ftrun.runs.artifacts import LORA, LORA_WEIGHTS, low_rank, update_in
from ftrun.runs.manifest import verify
from ftrun.runs.run import Run
from ftrun.settings.read import read
from ftrun.settings.schema import ROUNDED, Settings
from ftrun.settings.seeds import stream

# layer within the backbone → A (rank, inputs), B (outputs, rank); the inputs of a convolution with its kernel
Factors = dict[str, tuple[Tensor, Tensor]]
A, B = ".lora_A.weight", ".lora_B.weight"  # how peft ends the names of the two
METHODS = {"svd": "svd", "ties": "ties_svd", "dare": "dare_linear_svd"}  # dense ones of peft: any ranks go


@dataclass
class Update:
    """What one run's LoRA adds to its base: sᵢ·BᵢAᵢ per layer, the scaling held in A."""

    run: Run
    settings: Settings
    factors: Factors
    head: dict[str, Tensor]  # every other trained weight, by its name in the network without a pooled head
    prefix: str  # of the backbone within that network
    base: dict[str, str]  # pretrained tensor of the backbone → sha256 of its content
    shapes: dict[str, tuple[int, ...]]  # layer → (inputs,), of a convolution with its kernel


def refuse_unsummable(run: Run) -> None:
    """ConfigError, before anything heavy is loaded, for a run whose update is no sum of matrices."""
    settings = low_rank(
        run, "so their effect is not a sum of matrices and cannot be weighted; compose takes LoRAs"
    )
    if settings.get("peft_type") != "LORA":
        what = update_in(run.model_dir)
        raise ConfigError(f"{run.path} holds {what}, of which no weighted sum exists; compose takes LoRAs")
    if (load := run.config["model"].get("load")) in ROUNDED:
        raise ConfigError(
            f"{run.path}: its update is relative to layers rounded by model.load={load}; compose takes LoRAs"
            " beside full weights"
        )
    if run.settings["train"]["frozen_dtype"] != "fp32":
        raise ConfigError(
            f"{run.path}: its update is relative to weights rounded by train.frozen_dtype=bf16; compose takes"
            " LoRAs beside weights in fp32"
        )
    if settings.get("use_dora"):
        raise ConfigError(
            f"{run.path}: variant=dora divides by the norm of the updated weight, so its update is not "
            "linear and no weighted sum of it exists; compose takes lora, lora_plus, rslora and pissa"
        )


def read_update(run: Run) -> Update:
    """The update of a finished LoRA run.

    The scaling is alpha/rank, for rslora alpha/√rank (Kalajdzievski 2023). PiSSA (Meng et al. 2024) trains
    what it took out of the weight itself, so its update is s(BA − B₀A₀), of twice the rank. Raises
    ConfigError.
    """
    from peft import LoraConfig

    refuse_unsummable(run)
    verify(run.model_dir)
    settings = read(run.settings)
    net = bare(run, settings)
    with loading(run.model_dir, run.model_dir, LORA_WEIGHTS):
        config = LoraConfig.from_pretrained(str(run.model_dir))
        tensors = load_file(run.model_dir / LORA_WEIGHTS)
        lost = [name for name in tensors if name.endswith(A) and name.removesuffix(A) + B not in tensors]
        if lost:
            raise ConfigError(f"{run.path} is damaged: model/{LORA_WEIGHTS} has {lost[0]} and not its B")
    tensors = {name.removeprefix(PEFT_PREFIX): value.float() for name, value in tensors.items()}
    backbone = net.base_model
    prefix = "" if backbone is net else name_of(net, backbone) + "."
    head = {name: value for name, value in tensors.items() if ".lora_" not in name}
    initial = first_factors(backbone, config, prefix) if config.init_lora_weights == "pissa" else {}
    factors: Factors = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, whole in tensors.items():
        if name.endswith(A):
            layer = name.removesuffix(A)
            a, b = whole.flatten(1), tensors[layer + B].flatten(1)
            own, rank = layer.removeprefix(prefix), len(a)
            shapes[own] = tuple(whole.shape[1:])
            scaling = config.lora_alpha / (rank**0.5 if config.use_rslora else rank)
            before = initial.get(own)
            if before is not None:
                a, b = torch.cat([a, before[0]]), torch.cat([b, -before[1]], 1)
            factors[own] = (scaling * a, b)
    if not factors:
        raise ConfigError(f"{run.path} is damaged: model/{LORA_WEIGHTS} contains no LoRA")
    known = hashes(backbone, {name.removeprefix(prefix) for name in head})
    return Update(run, settings, factors, head, prefix, known, shapes)


def bare(run: Run, settings: Settings) -> nn.Module:
    """The network that the LoRA was trained on, its head fresh; of a pooled one the backbone."""
    config = read_config(run.model_dir, **settings.model.trust)
    lora = stored(run.model_dir / LORA)
    pooled = getattr(config, "ftrun_pooling", None)
    own = settings.task.spec(None).auto_class
    auto_class, extra = (headless(config), without_pooler(config)) if pooled else (own, {})
    source, revision = lies(run.model_dir, lora["base_model_name_or_path"]), lora.get("revision")
    with quiet():
        return base_network(source, revision, auto_class, config, extra | settings.model.trust, set())


def first_factors(backbone: nn.Module, config: Any, prefix: str) -> Factors:
    """What PiSSA began with: peft's own decomposition of the pretrained weights, which is repeatable."""
    from peft import inject_adapter_in_model

    config = copy.deepcopy(config)
    config.modules_to_save = None
    config.target_modules = {name.removeprefix(prefix) for name in config.target_modules}
    with quiet():
        split = inject_adapter_in_model(config, copy.deepcopy(backbone))
    return factors_in(split, "default")


def factors_in(net: nn.Module, adapter: str) -> Factors:
    """A and B of every peft layer that has this adapter, by the layer's name."""
    from peft.tuners.lora import LoraLayer

    return {
        name: (matrix(module.lora_A[adapter]), matrix(module.lora_B[adapter]))
        for name, module in net.named_modules()
        if isinstance(module, LoraLayer) and adapter in module.lora_A
    }


def matrix(layer: Any) -> Tensor:
    """A copy of its weight, (outputs, inputs), of a convolution with its kernel flat."""
    return layer.weight.detach().flatten(1).clone()


def hashes(backbone: nn.Module, trained: set[str]) -> dict[str, str]:
    """The content of each pretrained tensor; what the run trained itself is no part of the base."""
    return {
        name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for name, value in backbone.state_dict().items()
        if name not in trained
    }


def refuse_other_bases(updates: list[Update]) -> None:
    """ConfigError unless all stand on the same weights, bit for bit, wherever the checkpoints lie."""
    first = updates[0]
    for other in updates[1:]:
        shared = first.base.keys() & other.base.keys()
        different = sorted(name for name in shared if first.base[name] != other.base[name])
        strange = sorted(name for name in other.factors if f"{name}.weight" not in first.base)
        strange += sorted(name for name in first.factors if f"{name}.weight" not in other.base)
        if different or strange:
            what = f"{len(different)} of {len(shared)} tensors differ" if different else "layers are missing"
            raise ConfigError(
                f"{other.run.path} and {first.run.path} have different base checkpoints ({what}, "
                f"such as {(different or strange)[0]}); updates can only be summed over the same base"
            )


def weighted_sum(updates: list[Factors], weights: list[float]) -> Factors:
    """Σ wᵢ·BᵢAᵢ exactly, kept as factors: the A stacked and weighed, the B side by side, of rank Σ rᵢ.

    A layer that a LoRA lacks takes nothing from it. This is peft's combination_type="cat".
    """
    layers = list(dict.fromkeys(name for factors in updates for name in factors))
    result = {}
    for layer in layers:
        parts = [
            (w, *factors[layer]) for w, factors in zip(weights, updates, strict=True) if layer in factors
        ]
        result[layer] = (torch.cat([w * a for w, a, _ in parts]), torch.cat([b for _, _, b in parts], 1))
    return result


def by_peft(
    backbone: nn.Module,
    updates: list[Factors],
    weights: list[float],
    method: str,
    rank: int | None,
    density: float,
    seed: int,
) -> Factors:
    """peft's add_weighted_adapter on these factors: svd, ties (Yadav et al. 2023) or dare (Yu et al. 2023).

    ties and dare work on the dense updates; what they make is cut to `rank` by svd: by default the largest
    rank for svd, the sum of ranks for the others. `backbone` gets peft's layers and is spent afterwards.
    """
    from peft import LoraConfig, PeftModel

    ranks = [{name: len(a) for name, (a, _) in factors.items()} for factors in updates]
    widest = [max(own.values()) for own in ranks]
    net: Any = None
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(stream(seed, "compose"))
        for number, own in enumerate(ranks):
            config = LoraConfig(
                r=widest[number],
                lora_alpha=widest[number],
                rank_pattern=own,
                alpha_pattern=dict(own),
                target_modules=list(own),
            )
            if net is None:
                net = PeftModel(backbone, config, "0")
            else:
                net.add_adapter(str(number), config)
        for number, factors in enumerate(updates):
            fill(net.base_model.model, str(number), factors)
        net.base_model.add_weighted_adapter(
            [str(number) for number in range(len(updates))],
            weights,
            "sum",
            combination_type=METHODS[method],
            svd_rank=rank or (max(widest) if method == "svd" else sum(widest)),
            density=density,
        )
    return factors_in(net.base_model.model, "sum")


def fill(net: nn.Module, adapter: str, factors: Factors) -> None:
    """Put factors into peft's layers of that name."""
    for name, (a, b) in factors.items():
        module: Any = net.get_submodule(name)
        for layer, values in ((module.lora_A[adapter], a), (module.lora_B[adapter], b)):
            layer.weight.data = values.clone().view_as(layer.weight)
