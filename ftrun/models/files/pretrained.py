"""A checkpoint's weights in its network: all below the head are there, of its shapes, and are numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ftrun.errors import ConfigError, counted
from ftrun.models.architecture import by
from ftrun.models.few_bits.half import halve, in_bf16
from ftrun.models.files.reading import CONFIG, loading, read_config
from ftrun.models.files.sharing import one_by_one
from ftrun.models.files.stored import Shapes, narrow, shapes
from ftrun.models.heads import name_of
from ftrun.runs.manifest import verify
from ftrun.runs.terminal import say

if TYPE_CHECKING:
    from ftrun.models.files.locate import Checkpoint

# Of a network in relation to what is stored: a head, and weights tied, split or set twice while it is loaded.
TIMES, MORE_TENSORS, MORE_NUMBERS = 8, 1000, 2**26
POSSIBLE = "possible: the config.json that was saved with these weights"
POOLER = "pooler."  # a part of the head: task heads on other poolers lack its weights


def pretrained(
    auto_class: str,
    checkpoint: Checkpoint,
    named: str,
    whole: bool = False,
    half: Callable[[str], bool] | None = None,
    **options: Any,
) -> tuple[Any, set[str]]:
    """The network of a class of transformers with a checkpoint's weights, and the names of fresh ones.

    Only what belongs to the head may be fresh: it is missing, or has other labels; with `whole` nothing may.
    Weights whose names are `half` are read in bf16 and never train. Raises ConfigError, which begins with
    what is `named`, for anything else and for weights that are not finite or in a damaged file.
    """
    import transformers

    if (directory := Path(checkpoint.name)).is_dir():
        verify(directory)
    kind = getattr(transformers, auto_class)
    reading = one_by_one() if half is not None or narrow(checkpoint) else nullcontext()
    with loading(named, directory, CONFIG), no_larger(named, shapes(checkpoint)), reading:
        if half is not None:
            kind = in_bf16(class_of(kind, checkpoint, options), half)
        net, info = kind.from_pretrained(
            checkpoint.name,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # a checkpoint's own head for other labels
            output_loading_info=True,
            **checkpoint.options,
            **options,
        )
    refuse_unfit(named, net, info, whole)
    fresh = fresh_in(info)
    fill_biases(net, fresh)
    refuse_not_finite(named, net)
    if half is not None:
        net.__class__ = kind.__base__
        halve(net)
    if left := unused_layers(net, info):
        say(f"{named}: config.json asks for {left[0]} of the {left[1]} layers that are stored")
    return net, fresh


def fetch(auto_class: str, checkpoint: Checkpoint) -> None:
    """Have the Hub's files of a checkpoint on this machine; nothing of them is read."""
    import transformers

    with loading(checkpoint.label, checkpoint.name, CONFIG):
        kind = getattr(transformers, auto_class)
        kind.from_pretrained(
            checkpoint.name,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            device_map="meta",
            **checkpoint.options,
        )


def class_of(kind: Any, checkpoint: Checkpoint, options: dict[str, Any]) -> Any:
    """The class of transformers that an auto class means for a checkpoint."""
    own = {name: value for name, value in options.items() if name not in ("config", "dtype")}
    config = options.get("config") or read_config(checkpoint.name, **checkpoint.options)
    trust = {"trust_remote_code": checkpoint.options.get("trust_remote_code", False)}
    with torch.device("meta"):
        return type(kind.from_config(config, **trust | own))


def fill_biases(net: nn.Module, fresh: set[str]) -> None:
    """Zero in fresh biases of no layer of torch, left as the memory was (in Longformer's head, for one)."""
    for name in fresh:
        place, _, last = name.rpartition(".")
        owner = net.get_submodule(place)
        value = getattr(owner, last, None)
        if last == "bias" and isinstance(value, nn.Parameter) and not hasattr(owner, "reset_parameters"):
            nn.init.zeros_(value)


def refuse_other_shapes(net: Any, stored: Shapes, named: str, **options: Any) -> set[str]:
    """ConfigError where the stored tensors are not those of a network, which is on the meta device.

    Their names are read as transformers does it, with prefixes and former names. Nothing is compared where
    they are weights at few bits. Returns the names of weights that are fresh.
    """
    if getattr(net.config, "quantization_config", None) is not None:
        return set()
    _, info = type(net).from_pretrained(
        None,
        config=net.config,
        state_dict={name: torch.empty(shape, device="meta") for name, shape in stored.items()},
        device_map="meta",
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    refuse_unfit(named, net, info)
    return fresh_in(info)


def fresh_in(info: dict[str, Any]) -> set[str]:
    """The names of weights that a checkpoint did not bring."""
    return set(info["missing_keys"]) | {name for name, *_ in info["mismatched_keys"]}


@contextmanager
def no_larger(named: str, stored: Shapes | None) -> Iterator[None]:
    """ConfigError as soon as a network that is being built is far larger than what is stored.

    It may have `TIMES` as many tensors and numbers, and some more.
    """
    tensors = TIMES * len(stored or {}) + MORE_TENSORS
    room = TIMES * sum(map(math.prod, (stored or {}).values())) + MORE_NUMBERS
    seen = [0, 0]

    def count(module: nn.Module, name: str, value: nn.Parameter | None) -> None:
        if value is None:
            return
        seen[0], seen[1] = seen[0] + 1, seen[1] + value.numel()
        if seen[0] > tensors:
            raise ConfigError(
                f"{named}: config.json asks for more than {tensors:,} tensors, and"
                f" {len(stored or {}):,} are stored; {POSSIBLE}"
            )
        if seen[1] > room:
            raise ConfigError(
                f"{named}: config.json asks for a tensor of {by(value.shape)}"
                f" ({type(module).__name__}.{name}), larger than all {len(stored or {}):,} stored ones;"
                f" {POSSIBLE}"
            )

    handle = None if stored is None else register_module_parameter_registration_hook(count)
    try:
        yield
    except (RuntimeError, TypeError, OverflowError) as error:
        if "overflow" not in str(error).lower():
            raise
        reason = str(error).splitlines()[0][:200]
        raise ConfigError(
            f"{named}: config.json asks for a tensor that no machine holds ({reason}); {POSSIBLE}"
        ) from error
    finally:
        if handle is not None:
            handle.remove()


def refuse_unfit(named: str, net: Any, info: dict[str, Any], whole: bool = False) -> None:
    """ConfigError where a weight below the head, or with `whole` any, was not loaded from the files."""
    state = net.state_dict(keep_vars=True)
    below = [name for name in state if whole or is_below_head(name, net)]
    needed = [name for name in below if state[name].is_floating_point()]  # the others are no weights
    missing = [name for name in needed if name in info["missing_keys"]]
    other = {name: (there, here) for name, there, here in info["mismatched_keys"] if name in {*needed}}
    place = "" if whole else " below the head"
    if missing:
        end = ".".join(missing[0].split(".")[-3:])
        instead = sorted(name for name in info["unexpected_keys"] if name.endswith(end))
        raise ConfigError(
            f"{named}: {len(missing):,} of {counted(len(needed), 'tensor')}{place} are not in its files, such"
            f" as {missing[0]}{f'; the files have {instead[0]}' if instead else ''};"
            f" {POSSIBLE}"
        )
    if other:
        first = next(name for name in needed if name in other)
        there, here = map(by, other[first])
        raise ConfigError(
            f"{named}: {len(other):,} of {counted(len(needed), 'tensor')}{place} have another shape than"
            f" config.json says, such as {first}: {there} stored, {here} wanted;"
            f" {POSSIBLE}"
        )


def unused_layers(net: Any, info: dict[str, Any]) -> tuple[int, int] | None:
    """How many layers the network has, and how many are stored, where these are more."""
    for name, module in net.named_modules():
        if isinstance(module, nn.ModuleList):
            own = re.escape(name.removeprefix(f"{net.base_model_prefix}."))
            pattern = re.compile(rf"(?:^|\.){own}\.(\d+)\.")
            found = [int(match[1]) for key in info["unexpected_keys"] if (match := pattern.search(key))]
            if found and max(found) >= len(module):
                return len(module), max(found) + 1
    return None


def is_below_head(name: str, net: Any) -> bool:
    """Whether a weight belongs to what was pretrained, whatever head stands on it; a pooler's is not."""
    from transformers import AutoModel

    base = net.base_model
    if base is not net:
        prefix = name_of(net, base) + "."
        return name.startswith(prefix) and not name.removeprefix(prefix).startswith(POOLER)
    plain = AutoModel._model_mapping.get(type(net.config), None)
    if plain is not None and isinstance(net, plain):
        return not name.startswith(POOLER)
    child = net.get_submodule(name.partition(".")[0]) if "." in name else net
    return any(isinstance(module, nn.ModuleList | nn.Embedding) for module in child.modules())


def refuse_not_finite(named: str, net: nn.Module) -> None:
    """ConfigError where a weight is NaN or infinite, or a running statistic is NaN."""
    whole = {name for name, _ in net.named_parameters()}
    for name, value in net.state_dict().items():
        if value.is_floating_point() and value.numel() and not is_finite(value, name in whole):
            bad = int((~value.isfinite()).sum())
            raise ConfigError(
                f"{named}: {bad:,} of the {value.numel():,} numbers in {name} are NaN or infinite;"
                " possible: a checkpoint without them"
            )


def is_finite(value: Tensor, infinite_too: bool) -> bool:
    """By its extremes, which takes one pass and no memory; a buffer, as a mask, may hold infinities."""
    least, most = map(float, torch.aminmax(value))  # NaN where there is one
    return math.isfinite(least) and math.isfinite(most) if infinite_too else not math.isnan(least)
