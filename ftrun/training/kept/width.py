"""In which widths of a batch a CPU gives a text the same features, to the last bit.

The kernels of attention take its columns in vectors, and those left over one by one; products of matrices
whose sides are odd may be added up in another order. Which it is depends on shapes alone, so it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ftrun.models.features.prefix import Prefix, stopped_at, tensors_of

if TYPE_CHECKING:
    from torch import Tensor

VECTORS = {"AVX512": 16, "AVX2": 8}  # numbers in fp32
LENGTHS, WIDTHS = 6, 20  # that are measured
LAYERS = 3  # through which they are measured; those above are alike
Rule = Callable[
    [int, int], int
]  # tokens of a text and columns of its batch → a number, equal where features are


def by_vectors(size: int, columns: int) -> int:
    """Whether the last token is in the last whole vector of columns."""
    vector = VECTORS.get(torch.backends.cpu.get_cpu_capability(), 16)
    whole = -(-size // vector) * vector
    if columns >= whole:
        return whole
    return size if size > vector else columns


def by_parity(size: int, columns: int) -> int:
    return 2 * by_vectors(size, columns) + columns % 2


def exactly(size: int, columns: int) -> int:
    return columns


RULES: list[Rule] = [by_vectors, by_parity, exactly]  # the coarsest first


def coarsest(prefix: Prefix, inputs: dict[str, Tensor], sizes: Sequence[int]) -> int:
    """The number of the coarsest rule that holds for texts of these sizes; `inputs` are the longest."""
    longest, known = inputs["attention_mask"].shape[1], sorted(set(sizes))
    chosen = sorted({known[at * (len(known) - 1) // (LENGTHS - 1)] for at in range(LENGTHS)})
    found: dict[int, list[tuple[int, Tensor]]] = {}
    for size in chosen:
        widths = sorted(
            {*range(size, longest + 1, max(1, (longest - size) // WIDTHS)), min(size + 1, longest)}
        )
        found[size] = [(width, below(prefix, inputs, size, width, padded=True)) for width in widths]
        found[size].append((size, below(prefix, inputs, size, size, padded=False)))
    for number, rule in enumerate(RULES[:-1]):
        if all(holds(rule, size, outputs) for size, outputs in found.items()):
            return number
    return len(RULES) - 1


def below(prefix: Prefix, inputs: dict[str, Tensor], size: int, width: int, padded: bool) -> Tensor:
    """What the lowest layers make of the first `size` tokens in a batch of two, where padding is masked."""
    columns = inputs["attention_mask"].shape[1]
    some = {n: v[[0, 0], :width] if v.shape[1:2] == (columns,) else v[[0, 0]] for n, v in inputs.items()}
    mask = some["attention_mask"].clone()
    mask[:, size:] = 0
    mask[1, max(1, size - padded) :] = 0
    site = prefix.model.layers()[min(LAYERS, prefix.cut - 1) - 1]
    values = tensors_of(stopped_at(site, prefix.model, some | {"attention_mask": mask})) or {}
    return next(iter(values.values()))[0, :size]


def holds(rule: Rule, size: int, outputs: Sequence[tuple[int, Tensor]]) -> bool:
    """Whether outputs in widths of one number are equal."""
    first: dict[int, Tensor] = {}
    return all(torch.equal(output, first.setdefault(rule(size, width), output)) for width, output in outputs)
