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

from ftrun.strategies.ewc.squares import Sums, add_squares, add_tied, knows

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

Inputs = dict[str, Tensor]
TIED = (nn.Embedding, nn.Linear)


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
            raise RuntimeError(f"{layer} was not used once per example, unlike in the first batch")
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
