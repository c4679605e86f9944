"""The device, the processes and the precision of a run, by accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ftrun.errors import ConfigError, counted
from ftrun.models.attention_masks import always_given
from ftrun.training.processes import ranks
from ftrun.training.processes.launchers import MPI, only_cpu, refuse_environment

if TYPE_CHECKING:
    from accelerate import Accelerator

STARTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", *MPI)  # by which accelerate sees that there are others
DTYPES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16", "tf32": "no"}


def open_accelerator(device: str, precision: str, deterministic: bool) -> Accelerator:
    """The accelerator of this process, alone or as one of those of torchrun or `accelerate launch`.

    Raises ConfigError for a GPU that is not available, a precision that the device does not support, and
    what the environment asks accelerate for that ftrun does not do.
    """
    refuse_environment()
    gpu = torch.cuda.is_available() and not only_cpu(device)
    if device.startswith("cuda") and not gpu:
        raise ConfigError(f"device={device}: torch {torch.__version__} finds no GPU; possible: auto, cpu")
    cpu = device == "cpu" or not gpu
    if precision in ("fp16", "tf32") and cpu:
        raise ConfigError(f"train.precision={precision} needs a GPU; possible on a CPU: auto, fp32, bf16")
    if precision == "tf32" and torch.cuda.get_device_capability() < (8, 0):
        raise ConfigError(
            f"train.precision=tf32 needs a GPU from Ampere on, which {torch.cuda.get_device_name()} is not"
        )
    if precision == "auto":
        precision = "bf16" if not cpu and torch.cuda.is_bf16_supported() else "fp32"
    if ":" in device:
        torch.cuda.set_device(int(device.split(":")[1]))
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by torch in this mode
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
    if not cpu:
        always_given()
    for products in (torch.backends.cuda.matmul, torch.backends.cudnn):  # torch would let convolutions use it
        products.allow_tf32 = precision == "tf32"
    return made(cpu, DTYPES[precision])


def made(cpu: bool, precision: str) -> Accelerator:
    """An accelerator anew, of this process alone where it does what the others have no part in."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    whole = not ranks.leaderless() or "RANK" not in os.environ  # else it holds the process group
    AcceleratorState._reset_state(reset_partial_state=whole)  # a sweep opens one per run
    with unstarted() if ranks.alone() else ranks.joined(gpu=not cpu):
        return Accelerator(cpu=cpu, mixed_precision=precision)


@contextmanager
def unstarted() -> Iterator[None]:
    """Inside, the environment is that of a single process."""
    hidden = {name: os.environ.pop(name) for name in STARTED if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def largest(accelerator: Accelerator, *values: float) -> list[float]:
    """The largest of each value among all processes, all of which call this at the same time."""
    if accelerator.num_processes == 1:
        return list(values)
    tensor = torch.tensor([values], dtype=torch.float64, device=accelerator.device)
    found: list[float] = accelerator.gather(tensor).amax(0).tolist()
    return found


def added(accelerator: Accelerator, values: Sequence[float | torch.Tensor]) -> list[torch.Tensor]:
    """The sum of each number over all processes, in fp64, still on the device."""
    kind: dict[str, Any] = {"dtype": torch.float64, "device": accelerator.device}
    numbers = [
        each.to(**kind) if isinstance(each, torch.Tensor) else torch.full((), each, **kind) for each in values
    ]
    return list(accelerator.reduce(torch.stack(numbers), "sum").unbind())


def agreed(accelerator: Accelerator, *values: Any) -> list[Any]:
    """The values that the first process has, in all of them, which call this at the same time."""
    if accelerator.num_processes == 1:
        return list(values)
    from accelerate.utils import broadcast_object_list

    found: list[Any] = broadcast_object_list(list(values))
    return found


def describe(accelerator: Accelerator) -> str:
    """A description of the device, such as "NVIDIA H200, bf16" or "CPU, 2 threads, fp32"."""
    precision = next(key for key, value in DTYPES.items() if value == accelerator.mixed_precision)
    if precision == "fp32" and torch.backends.cuda.matmul.allow_tf32:
        precision = "tf32"
    if accelerator.device.type == "cuda":
        name = torch.cuda.get_device_name(accelerator.device)
    else:
        name = f"CPU, {counted(torch.get_num_threads(), 'thread')}"
    processes = f"{accelerator.num_processes} processes, " if accelerator.num_processes > 1 else ""
    return f"{name}, {processes}{precision}"
