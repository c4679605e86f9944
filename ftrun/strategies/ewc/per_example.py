"""Sums of squared per-example gradients, read off one backward pass over a batch by hooks on the modules.

The gradient of one example by a weight matrix is the product of what came back to the layer's output and what
had entered the layer, so the backward pass of a batch holds all of them (Goodfellow 2015, arXiv:1510.01799).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

Sums = dict[str, Tensor]  # parameter name → sum over examples of its squared gradients
Inputs = dict[str, Tensor]
TIED = (nn.Embedding, nn.Linear)
LAYERS = (nn.Linear, nn.Embedding, nn.Conv2d, nn.LayerNorm, nn.RMSNorm, nn.BatchNorm2d)


class Hooks:
    """While `attached`, a forward pass followed by `backward` adds to the sums of the parameters it knows.

    Every parameter of the network must be frozen: gradients then reach the outputs of the layers and not the
    weights, and go no deeper than the lowest layer of which a parameter is wanted.
    """

    def __init__(self, layers: dict[nn.Module, dict[str, str]], sums: Sums) -> None:
        self.sums = {
            layer: {own: sums[name] for own, name in names.items()} for layer, names in layers.items()
        }
        self.tied = tied_pairs(layers)
        self.above: dict[nn.Module, tuple[Tensor, Tensor]] = {}  # of a tied layer, until its embedding's turn
        self.entered: dict[nn.Module, Tensor] = {}
        self.lowest: list[Tensor] = []
        self.last = False

    @contextmanager
    def attached(self, size: int) -> Iterator[None]:
        """For one batch of `size` examples; what the hooks captured is let go at the end."""
        handles: list[RemovableHandle] = []
        for layer in self.sums:
            handles += [layer.register_forward_pre_hook(partial(spread, size))]
            handles += [layer.register_forward_hook(partial(self._capture, size), with_kwargs=True)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self.entered, self.above, self.lowest, self.last = {}, {}, [], False

    def backward(self, logits: Tensor, column: Tensor, last: bool) -> None:
        """Add the squares of the per-example gradients of <column, logits>; `last` frees the graph."""
        self.last = last
        if self.lowest and logits.requires_grad:
            torch.autograd.grad(logits, self.lowest, column, retain_graph=not last, allow_unused=True)

    def _capture(
        self, size: int, layer: nn.Module, args: tuple[Any, ...], kwargs: Inputs, output: Tensor
    ) -> Tensor | None:
        entered = first_input(args, kwargs)
        if layer in self.entered or not per_example(entered, output, size):
            raise RuntimeError(f"{layer} was used otherwise than in the first batch: not once per example")
        self.entered[layer] = entered.detach()
        replaced = None
        if not output.requires_grad:  # the lowest of its branch
            self.lowest.append(output.detach().requires_grad_())
            output = replaced = self.lowest[-1].clone()  # the network may change it in place
        output.register_hook(partial(self._add, layer))
        return replaced

    def _add(self, layer: nn.Module, delta: Tensor) -> None:
        entered, sums = self.entered.pop(layer) if self.last else self.entered[layer], self.sums[layer]
        if layer in self.tied.values():
            self.above[layer] = entered, delta
            sums = {own: total for own, total in sums.items() if own != "weight"}
        elif layer in self.tied:
            add_tied(layer, entered, delta, *self.above.pop(self.tied[layer]), sums["weight"])
            return
        if sums:
            add_squares(layer, entered, delta, sums)


def split(model: nn.Module, names: Collection[str], inputs: Inputs) -> dict[nn.Module, dict[str, str]]:
    """The layers whose wanted parameters hooks can see: layer → its own name of a parameter → the full name.

    Left out, for a loop over the examples, are parameters of several modules, of unknown modules, and of
    modules that a forward pass over `inputs`, some two examples or more, does not use once per example. A
    weight that an embedding and a linear layer share is seen where both are.
    """
    full = {id(parameter): name for name, parameter in model.named_parameters() if name in names}
    owners: dict[str, dict[nn.Module, str]] = {}
    for module in model.modules():
        for own, parameter in module._parameters.items():
            if id(parameter) in full:
                owners.setdefault(full[id(parameter)], {})[module] = own
    found: dict[nn.Module, dict[str, str]] = {}
    for name, modules in owners.items():
        if all(map(knows, modules)) and (len(modules) == 1 or [*map(type, modules)] == [*TIED]):
            for module, own in modules.items():
                found.setdefault(module, {})[own] = name
    seen = set(used_once(model, found, inputs))
    return {
        module: kept
        for module, own_names in found.items()
        if (kept := {own: name for own, name in own_names.items() if seen >= owners[name].keys()})
    }


def tied_pairs(layers: dict[nn.Module, dict[str, str]]) -> dict[nn.Module, nn.Module]:
    """Embedding → the linear layer that has its weight."""
    owner = {names["weight"]: layer for layer, names in layers.items() if isinstance(layer, nn.Embedding)}
    return {
        owner[names["weight"]]: layer
        for layer, names in layers.items()
        if not isinstance(layer, nn.Embedding) and names.get("weight") in owner
    }


def used_once(model: nn.Module, layers: Collection[nn.Module], inputs: Inputs) -> list[nn.Module]:
    """Those of the layers that one forward pass calls exactly once, with a row for every example."""
    size = len(next(iter(inputs.values())))
    calls: dict[nn.Module, list[bool]] = {layer: [] for layer in layers}

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: Inputs, output: Tensor) -> None:
        calls[layer].append(per_example(first_input(args, kwargs), output, size))

    handles = [layer.register_forward_pre_hook(partial(spread, size)) for layer in layers]
    handles += [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [layer for layer, fits in calls.items() if fits == [True]]


def spread(size: int, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Ids that all examples share, as BERT's positions of shape (1, length), become a row for each."""
    if isinstance(layer, nn.Embedding) and args and args[0].dim() > 1 and len(args[0]) == 1 < size:
        return (args[0].expand(size, *args[0].shape[1:]), *args[1:])
    return None


def first_input(args: tuple[Any, ...], kwargs: Inputs) -> Tensor:
    return args[0] if args else next(iter(kwargs.values()))


def per_example(entered: Tensor, output: Tensor, size: int) -> bool:
    return entered.dim() > 0 and len(entered) == len(output) == size


def knows(module: nn.Module) -> bool:
    """Whether `add_squares` has a formula; a derived class counts when it computes the same."""
    if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq):
        return False
    if isinstance(module, nn.BatchNorm2d) and (module.training or not module.track_running_stats):
        return False  # an example's gradient then depends on the others of its batch
    if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
        return False
    same = any(isinstance(module, known) and type(module).forward is known.forward for known in LAYERS)
    return same or is_conv1d(module) or is_rms_norm(module)


def is_conv1d(module: nn.Module) -> bool:
    """GPT-2's linear layer, whose weight is (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def is_rms_norm(module: nn.Module) -> bool:
    """The classes by which transformers' networks scale by the root mean square; they share names only."""
    return hasattr(module, "variance_epsilon") and [*module._parameters] == ["weight"]


def add_squares(layer: nn.Module, entered: Tensor, delta: Tensor, sums: Sums) -> None:
    """Add to `sums`, by the layer's own names, the squares of each example's gradient.

    `entered` (batch, …) went in; `delta` (batch, …) is the derivative by what came out. Only the names in
    `sums` are computed. Memory beside the sums: one weight, one example at a time.
    """
    kind = next(iter(sums.values())).dtype
    delta = delta.to(kind)
    if isinstance(layer, nn.Embedding):
        add_rows(layer, entered.flatten(1), delta.flatten(1, -2), sums["weight"])
        return
    entered = entered.to(kind)
    if isinstance(layer, nn.Conv2d):
        add_conv2d(layer, entered, delta, sums)
    elif isinstance(layer, nn.Linear) or is_conv1d(layer):
        add_linear(entered, delta, sums, transposed=not isinstance(layer, nn.Linear))
    elif isinstance(layer, nn.BatchNorm2d):
        add_batch_norm(layer, entered, delta, sums)
    else:
        add_norm(layer, entered, delta, sums)


def add_linear(entered: Tensor, delta: Tensor, sums: Sums, transposed: bool) -> None:
    delta = delta.reshape(len(delta), -1, delta.shape[-1])  # (batch, positions, out)
    entered = entered.reshape(len(entered), -1, entered.shape[-1])  # (batch, positions, in)
    if "weight" in sums:
        left, right = (entered, delta) if transposed else (delta, entered)
        if delta.shape[1] == 1:  # the square of an outer product is the product of the squares
            sums["weight"].addmm_(left[:, 0].square().t(), right[:, 0].square())
        else:
            add_products(left.mT, right, sums["weight"])
    if "bias" in sums:
        sums["bias"] += delta.sum(1).square().sum(0)


def add_products(left: Tensor, right: Tensor, total: Tensor) -> None:
    """total += Σ_n (left_n right_n)²; one by one is faster than a batched product, which leaves the cache."""
    product = torch.empty_like(total)
    for one, other in zip(left, right, strict=True):
        torch.mm(one, other, out=product)
        total.addcmul_(product, product)


def add_conv2d(layer: nn.Conv2d, entered: Tensor, delta: Tensor, sums: Sums) -> None:
    delta = delta.flatten(2)  # (batch, out, places)
    if "weight" in sums:
        for one, image in zip(delta, entered, strict=True):
            patches = functional.unfold(
                image[None], layer.kernel_size, layer.dilation, layer.padding, layer.stride
            )
            rows = one.unflatten(0, (layer.groups, -1))  # (groups, out of a group, places)
            columns = patches[0].unflatten(0, (layer.groups, -1))  # (groups, inputs of a group, places)
            product = (rows @ columns.mT).view_as(sums["weight"])
            sums["weight"].addcmul_(product, product)
    if "bias" in sums:
        sums["bias"] += delta.sum(2).square().sum(0)


def add_norm(layer: nn.Module, entered: Tensor, delta: Tensor, sums: Sums) -> None:
    kept = sums[next(iter(sums))].dim()  # the last dimensions, which the layer scales one by one

    def add(total: Tensor, gradient: Tensor) -> None:
        total += gradient.reshape(len(gradient), -1, *gradient.shape[-kept:]).sum(1).square().sum(0)

    if "weight" in sums:
        add(sums["weight"], delta * normalised(layer, entered))
    if "bias" in sums:
        add(sums["bias"], delta)


def add_batch_norm(layer: nn.BatchNorm2d, entered: Tensor, delta: Tensor, sums: Sums) -> None:
    """In eval mode, where the running statistics are constants: a scale and a shift for each channel."""
    if "weight" in sums:
        kind, eps = delta.dtype, layer.eps
        mean, variance = (each.to(kind) for each in (layer.running_mean, layer.running_var))
        whole = functional.batch_norm(entered, mean, variance, training=False, eps=eps)
        sums["weight"] += (delta * whole).flatten(2).sum(2).square().sum(0)
    if "bias" in sums:
        sums["bias"] += delta.flatten(2).sum(2).square().sum(0)


def normalised(layer: nn.Module, entered: Tensor) -> Tensor:
    """What the layer's weight multiplies."""
    if isinstance(layer, nn.LayerNorm):
        return functional.layer_norm(entered, layer.normalized_shape, eps=layer.eps)
    if isinstance(layer, nn.RMSNorm):
        return functional.rms_norm(entered, layer.normalized_shape, eps=layer.eps)
    return functional.rms_norm(entered, entered.shape[-1:], eps=float(layer.variance_epsilon))


def add_tied(
    layer: nn.Embedding, ids: Tensor, delta: Tensor, entered: Tensor, above: Tensor, total: Tensor
) -> None:
    """Of a weight (tokens, width) that embeds `ids` and then maps `entered` (batch, …, width) to logits.

    `delta` is the derivative by what was embedded, `above` (batch, …, tokens) by the logits. An example's
    gradient is the sum of both uses; only then it is squared.
    """
    ids, delta = ids.flatten(1), delta.to(total.dtype).flatten(1, -2)
    above, entered = above.to(total.dtype).flatten(1, -2), entered.to(total.dtype).flatten(1, -2)
    product = torch.empty_like(total)
    for one, used, column, states in zip(ids, delta, above, entered, strict=True):
        said = column.any(-1)  # positions that have a target
        torch.mm(column[said].t(), states[said], out=product)
        real = one != layer.padding_idx if layer.padding_idx is not None else torch.ones_like(one).bool()
        product.index_add_(0, one[real], used[real])
        total.addcmul_(product, product)


def add_rows(layer: nn.Embedding, ids: Tensor, delta: Tensor, total: Tensor) -> None:
    """A token's gradient is the sum over its places in one example; only then it is squared."""
    offsets = torch.arange(len(ids), device=ids.device)[:, None] * layer.num_embeddings
    pairs, place = torch.unique(ids + offsets, return_inverse=True)
    summed = delta.new_zeros(len(pairs), delta.shape[-1]).index_add_(0, place.flatten(), delta.flatten(0, 1))
    rows = pairs % layer.num_embeddings
    if layer.padding_idx is not None:
        summed[rows == layer.padding_idx] = 0
    total.index_add_(0, rows, summed.square())
