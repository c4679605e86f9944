"""The squares of per-example gradients of one layer, by its kind, from what entered and what came back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

Sums = dict[str, Tensor]  # parameter name → sum over examples of its squared gradients
LAYERS = (nn.Linear, nn.Embedding, nn.Conv2d, nn.LayerNorm, nn.RMSNorm, nn.BatchNorm2d)


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
