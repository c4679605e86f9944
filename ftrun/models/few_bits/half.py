"""Frozen weights in bf16, half the memory, and fp32 to whatever computes (train.frozen_dtype=bf16)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ftrun.runs.collector import return_what_is_free

KEY = "ftrun_frozen"  # in the configuration of a saved network: in what its frozen weights were kept

aten = torch.ops.aten
SAME = {  # the same values in another tensor
    aten.detach.default, aten.alias.default, aten.clone.default, aten.t.default, aten.transpose.int,
    aten.permute.default, aten.view.default, aten._unsafe_view.default, aten.unsqueeze.default,
}  # fmt: skip


class HalfWeight(Tensor):
    """A weight in fp32 by all that it answers to, of which `kept` in bf16 is all that is in memory.

    Every operation reads it as `kept` in fp32, which is there as long as the operation lasts: what autograd
    keeps for the way back is the weight itself. So the numbers are those of fp32 weights with these values,
    whatever layer they are in. Where autocast wants bf16 it gets `kept`.
    """

    kept: Tensor

    @staticmethod
    def __new__(cls, kept: Tensor) -> HalfWeight:
        made: HalfWeight = Tensor._make_wrapper_subclass(
            cls,
            kept.shape,
            strides=kept.stride(),
            storage_offset=kept.storage_offset(),
            dtype=torch.float32,
            device=kept.device,
        )
        return made

    def __init__(self, kept: Tensor) -> None:
        self.kept = kept

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["kept"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> HalfWeight:
        return HalfWeight(inner["kept"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        own = args[0] if args and isinstance(args[0], HalfWeight) else None
        if own is not None and func in SAME:
            return HalfWeight(func(own.kept, *args[1:], **kwargs))
        if own is not None and func is aten._to_copy.default:
            return copied(own, dict(kwargs))
        if own is not None and func is aten.copy_.default:
            own.kept.copy_(whole(args[1]))
            return own
        if own is not None and func is aten.embedding.default:  # of the rows that are looked up
            return func(own.kept, *args[1:], **kwargs).float()
        return func(*tree_map_only(HalfWeight, whole, args), **tree_map_only(HalfWeight, whole, kwargs))


def copied(weight: HalfWeight, asked: dict[str, Any]) -> Tensor:
    """What `Tensor.to` makes of it: of fp32 on another device a weight of this kind, of bf16 what is kept."""
    dtype = asked.pop("dtype", None) or torch.float32
    if dtype == torch.float32:
        return HalfWeight(aten._to_copy.default(weight.kept, **asked))
    return weight.kept.to(asked.get("device"), dtype)  # it is not changed, so it need be no copy


def whole(value: Tensor) -> Tensor:
    """In fp32 if it is a weight in bf16."""
    return value.kept.float() if isinstance(value, HalfWeight) else value


def kept(value: Tensor) -> Tensor:
    """The tensor that is in memory."""
    return value.kept if isinstance(value, HalfWeight) else value


def in_bf16(kind: Any, chosen: Callable[[str], bool]) -> Any:
    """A class of transformers whose weights of the `chosen` names are bf16, and are read from files so.

    To be made a network of by `from_pretrained`, which keeps the type that a network gives its weights.
    """

    class Half(kind):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            for name, parameter in self.named_parameters():
                if chosen(name) and parameter.is_floating_point():
                    parameter.data = parameter.data.to(torch.bfloat16)

    Half.__name__, Half.__qualname__, Half.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Half


def halve(net: nn.Module) -> None:
    """Have every weight that is in bf16 compute as one in fp32, and never train."""
    return_what_is_free()
    replace(net, lambda parameter: parameter.dtype == torch.bfloat16, HalfWeight)


def in_fp32(net: nn.Module) -> None:
    """Have the weights that `halve` has made in fp32 again, with their values."""
    replace(net, lambda parameter: isinstance(parameter, HalfWeight), whole)


def unwrap(net: nn.Module) -> None:
    """Have the weights that `halve` has made be what they keep, for whoever computes with that in fp32."""
    replace(net, lambda parameter: isinstance(parameter, HalfWeight), kept)


def replace(net: nn.Module, wanted: Callable[[Tensor], bool], change: Callable[[Tensor], Tensor]) -> None:
    """Put others in the place of the wanted weights, which do not train; tied ones stay one."""
    made: dict[int, nn.Parameter] = {}
    for module in net.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            if wanted(parameter):
                if id(parameter) not in made:
                    made[id(parameter)] = nn.Parameter(change(parameter.detach()), requires_grad=False)
                module._parameters[name] = made[id(parameter)]
