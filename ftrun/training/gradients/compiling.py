"""train.compile: the layers of a network compiled one by one, for any length of text, while it is trained."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ftrun.errors import ConfigError
from ftrun.runs.terminal import say

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.training.step import Step

BACKEND = "inductor"
VARIANTS = 16  # of a layer's code before torch gives up: training or not, frozen or not, kinds of layers


def refuse_without_compiler(device: torch.device) -> None:
    """ConfigError where nothing can be compiled: a CPU needs a C++ compiler, a GPU Triton."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        torch.compile(torch.neg, backend=BACKEND)(torch.zeros(2, device=device))
    except (TorchDynamoException, OSError) as error:
        reason = " ".join(str(error).split("Set TORCHDYNAMO_VERBOSE")[0].split())[:200]
        needed = "Triton" if device.type == "cuda" else "a C++ compiler, such as g++, on a CPU"
        raise ConfigError(f"train.compile=true needs {needed}: {reason}") from error


@contextmanager
def compiled(step: Step) -> Iterator[None]:
    """Inside, each layer runs compiled; afterwards the network is as it was.

    Lengths are symbols, so that a batch's own length compiles nothing, and kernels are never chosen by timing
    them, which another run would do otherwise.
    """
    if not step.settings.train.compile:
        yield
        return
    from torch._dynamo import config as dynamo
    from torch._inductor import config as inductor

    torch._dynamo.reset()  # nothing of a run before this one in the same process
    own = {"deterministic": True} if hasattr(inductor, "deterministic") else {}
    try:
        with inductor.patch(own), dynamo.patch(limit(step.model)), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor")  # by torch itself
            for layer in step.model.layers():
                layer.compile(dynamic=True, backend=BACKEND)
            yield
    finally:
        for layer in step.model.layers():
            layer._compiled_call_impl = None


def limit(model: Model) -> dict[str, int]:
    """How many variants of one code torch may compile, by the name that its version has for it."""
    from torch._dynamo import config as dynamo

    name = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"
    return {name: VARIANTS * model.depth, "accumulated_" + name: 256 * model.depth}


def keep_key(step: Step) -> None:
    """Note in the state what the kernels depend on; say so where a run continues with others."""
    wanted, state = step.settings.train.compile, step.state
    own = key(step.accelerator.device) if wanted else ""
    if state.compiled and state.compiled != own:
        say(
            f"train.compile: begun with {state.compiled}, continued with {own or 'no compiler'}:"
            " the numbers differ by rounding from those of a run that was not interrupted"
        )
    elif wanted:
        say(
            "train.compile: numbers differ by rounding from those without it, and repeat bit for bit only"
            f" with {own}"
        )
    state.compiled = own


def key(device: torch.device) -> str:
    """The version of torch and the processor, which decide the compiled kernels."""
    if device.type == "cuda":
        return f"torch {torch.__version__} on {torch.cuda.get_device_name(device)}"
    return f"torch {torch.__version__} on {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
