"""A network read beside one in memory: what both have and neither changes is in memory once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ftrun.models.few_bits.half import kept
from ftrun.models.split import is_split

LEAST = 2**18  # bytes of a weight, below which nothing is won, and others may be equal by chance
ASYNC = "HF_DEACTIVATE_ASYNC_LOAD"  # of transformers: its threads read ahead, all of a file at once
READ = "_is_hf_initialized"  # what transformers sets on the parameters that it has read
SAMPLE = 8  # numbers, by which most tensors of a shape are told apart

Key = tuple[Any, ...]


@contextmanager
def sharing(model: nn.Module) -> Iterator[None]:
    """Inside, a weight that a checkpoint brings is a frozen weight of the model, if bit for bit it is equal.

    Each is compared as it is read, whatever its name, and only its memory is shared: the network that is read
    has parameters of its own. Nothing that is read inside may be changed in place.
    """
    known: dict[Key, list[Tensor]] = {}
    for parameter in model.parameters():
        value = kept(parameter).detach()
        if not (parameter.requires_grad or is_split(value)) and large(value):
            known.setdefault(key_of(value), []).append(value)

    def instead(_: nn.Module, __: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or not getattr(parameter, READ, False) or not large(parameter):
            return None
        value = parameter.detach()
        same = next((one for one in known.get(key_of(value), []) if equal(one, value)), None)
        if same is None or same.data_ptr() == value.data_ptr():  # it is tied to one that has come before
            return None
        made: Any = nn.Parameter(same, requires_grad=parameter.requires_grad)
        setattr(made, READ, True)
        return made

    handle = register_module_parameter_registration_hook(instead)
    try:
        with one_by_one():
            yield
    finally:
        handle.remove()


def large(value: Tensor) -> bool:
    return value.nbytes >= LEAST and not value.is_meta


def key_of(value: Tensor) -> Key:
    """What equal tensors have in common, cheap to see."""
    return value.shape, value.dtype, *value.flatten()[:SAMPLE].tolist()


def equal(one: Tensor, other: Tensor) -> bool:
    return one.equal(other.to(one.device))


@contextmanager
def one_by_one() -> Iterator[None]:
    """Inside, transformers reads the tensors of a file one after the other, and keeps none of the file.

    Else the whole file stays mapped into memory beside what is made of it.
    """
    from safetensors import safe_open
    from transformers import modeling_utils

    def opened(file: Any, **options: Any) -> Any:
        return safe_open(file, **(options | {"backend": "pread"}))

    former, before = modeling_utils.safe_open, os.environ.get(ASYNC)
    modeling_utils.safe_open, os.environ[ASYNC] = opened, "1"
    try:
        yield
    finally:
        modeling_utils.safe_open = former
        if before is None:
            del os.environ[ASYNC]
        else:
            os.environ[ASYNC] = before
