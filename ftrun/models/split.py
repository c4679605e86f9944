"""A tensor whose rows are split over processes (a DTensor of FSDP2): this process's rows, and the whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_split(value: Any) -> bool:
    """Whether other processes have rows of it."""
    return hasattr(value, "to_local")


def own(value: Any) -> Tensor:
    """This process's rows, in the same memory; of a tensor in one piece all of it."""
    found: Tensor = value.detach().to_local() if is_split(value) else value
    return found


def whole(value: Any) -> Tensor:
    """The tensor in one piece; where it is split every process calls this, and each gets it."""
    found: Tensor = value.detach().full_tensor() if is_split(value) else value
    return found


def rows_of(value: Any) -> slice:
    """The rows that this process has of a split tensor, as torch.chunk cuts: the last may have none."""
    rows, processes = len(value), value.device_mesh.size()
    size = -(-rows // processes)
    first = min(value.device_mesh.get_local_rank() * size, rows)
    return slice(first, min(first + size, rows))


def part_of(value: Tensor, like: Any) -> Tensor:
    """Of a tensor in one piece the rows that this process has of another one of that shape."""
    return value[rows_of(like)] if is_split(like) else value


def put_together(rows: Tensor, like: Any) -> Tensor:
    """A split tensor of each process's own rows, cut as another one is, on its device."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        rows.to(like.device), like.device_mesh, like.placements, run_check=False, shape=like.shape,
        stride=like.stride(),
    )  # fmt: skip


def summed(value: Tensor, like: Any) -> Tensor:
    """The sum of all processes' values, where that tensor is split; else the value."""
    if is_split(like):
        torch.distributed.all_reduce(value, group=like.device_mesh.get_group())
    return value


def mean_square(value: Any) -> float:
    """The mean of its numbers' squares, in fp64."""
    if not is_split(value):
        return float(value.double().square().mean())
    return float(summed(own(value).double().square().sum(), value)) / value.numel()


def nbytes(value: Any) -> int:
    """Bytes in this process."""
    return own(value).nbytes
