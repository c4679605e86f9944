"""Where and how a run computes: device, processes and precision, all by accelerate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

DTYPES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def open_accelerator(device: str, precision: str, deterministic: bool) -> Accelerator:
    """One process, or one of those that torchrun or `accelerate launch` started.

    Raises ConfigError for a GPU that is not there or a precision that the device lacks.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    gpu = torch.cuda.is_available()
    if device.startswith("cuda") and not gpu:
        raise ConfigError(f"device={device}: torch {torch.__version__} sees no GPU here; possible: auto, cpu")
    cpu = device == "cpu" or not gpu
    if precision == "fp16" and cpu:
        raise ConfigError("train.precision=fp16 needs a GPU; on a CPU it is auto, fp32 or bf16")
    if precision == "auto":
        precision = "bf16" if not cpu and torch.cuda.is_bf16_supported() else "fp32"
    if ":" in device:
        torch.cuda.set_device(int(device.split(":")[1]))
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch asks for in this mode
    torch.use_deterministic_algorithms(deterministic)
    AcceleratorState._reset_state(reset_partial_state="RANK" not in os.environ)  # a sweep opens one per run
    return Accelerator(cpu=cpu, mixed_precision=DTYPES[precision])


def describe(accelerator: Accelerator) -> str:
    """The device in words, such as "NVIDIA H200, bf16" or "CPU, 2 threads, fp32"."""
    precision = {value: key for key, value in DTYPES.items()}[accelerator.mixed_precision]
    if accelerator.device.type == "cuda":
        name = torch.cuda.get_device_name(accelerator.device)
    else:
        name = f"CPU, {torch.get_num_threads()} threads"
    processes = f"{accelerator.num_processes} processes, " if accelerator.num_processes > 1 else ""
    return f"{name}, {processes}{precision}"


def peak_memory(accelerator: Accelerator) -> int:
    """Bytes at the peak: of the GPU's allocator, else of the process."""
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated(accelerator.device)
    try:
        import resource
    except ImportError:  # Windows has no such reading
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
