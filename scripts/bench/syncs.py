"""How often the host waits for the device in an ordinary step, where, and how many kernels the step launches.

    python scripts/bench/syncs.py FOLDER cuda strategy=lora model.name=DIR …     # prints one line of JSON

On a GPU torch says where it waits (`torch.cuda.set_sync_debug_mode`), and its profiler counts the kernels. On
a CPU the operations that would wait on a GPU are counted, with them ftrun's copies to the device that `onto`
does not make, and every operation but a view as a kernel. What makes a batch is on the host in both cases. An
ordinary step is one after which nothing is logged, scored or saved.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}  # they read from the device
VIEWS = {
    "view", "_unsafe_view", "t", "transpose", "expand", "slice", "select", "unsqueeze", "detach", "alias",
    "as_strided",
}  # fmt: skip
HOST = {"collate", "count"}  # functions of ftrun that compute on the host, wherever the network is
SAID = "called a synchronizing"  # by torch, of an operation
FIRST, SYNCS, KERNELS = 8, 6, 3  # ordinary steps: where the counting begins, and over how many


class Copies(TorchFunctionMode):
    """Counts by place in ftrun's code the copies to a device for which the host waits."""

    def __init__(self) -> None:
        from ftrun.models.device import onto

        super().__init__()
        self.without = onto.__code__
        self.waits: Counter[str] = Counter()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*args, *(kwargs or {}).values()]
        copies = function in (torch.Tensor.to, torch.tensor, torch.as_tensor)
        if copies and any(isinstance(one, torch.device) for one in given):
            frame = sys._getframe(1)
            own = Path(frame.f_code.co_filename).is_relative_to(ROOT / "ftrun")
            if own and frame.f_code is not self.without and not on_host(frame):
                self.waits[f"copy at {place(frame.f_code.co_filename, frame.f_lineno)}"] += 1
        return function(*args, **kwargs or {})


class Counts(TorchDispatchMode):
    """Counts operations, and by place in the code those that wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        masks = name == "index" and any(one is not None and one.dtype == torch.bool for one in args[1])
        if (name in WAITS or masks) and not on_host(sys._getframe(1)):
            self.waits[f"{name} at {caller()}"] += 1
        self.kernels += name not in VIEWS
        return function(*args, **kwargs or {})


def on_host(frame: FrameType | None) -> bool:
    """Whether this is computed where batches are made."""
    while frame is not None:
        if frame.f_code.co_name in HOST and Path(frame.f_code.co_filename).is_relative_to(ROOT / "ftrun"):
            return True
        frame = frame.f_back
    return False


def caller() -> str:
    """The innermost line that is neither torch's nor this file's."""
    frame = sys._getframe(1)
    inner = (str(Path(torch.__file__).parent), __file__)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inner):
        frame = frame.f_back
    return place(frame.f_code.co_filename, frame.f_lineno)


def place(file: str, line: int) -> str:
    return f"{'/'.join(Path(file).parts[-2:])}:{line}"


@contextmanager
def waits_of_a_gpu(found: Counter[str]) -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found.update(place(each.filename, each.lineno) for each in said if SAID in str(each.message))


def kernels_of_a_gpu(work: Any) -> int:
    """How many kernels the work launches; whoever measures it waits for their end."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        work()
        torch.cuda.synchronize()
    kinds = torch.autograd.DeviceType.CUDA
    return sum(each.device_type == kinds and "Mem" not in each.name for each in profiled.events())


def measured(words: list[str], folder: Path, device: str) -> dict[str, Any]:
    """Waits and kernels of an ordinary step of the run that these settings make."""
    from ftrun.experiments.overrides import compose
    from ftrun.experiments.single import run
    from ftrun.models.attention_masks import always_given, as_transformers_has_them
    from ftrun.settings import schedules
    from ftrun.settings.read import read
    from ftrun.training.step import Step

    total = FIRST + SYNCS + KERNELS + 1
    words = [*words, f"device={device}", f"train.max_steps={total}", "baselines=false",
             f"train.eval_every={total}", f"train.checkpoint_every={total}"]  # fmt: skip
    honest, waits, kernels = Step.take, Counter[str](), []

    def take(step: Step, rows: list[int]) -> None:
        number = step.state.step - FIRST
        if not 0 <= number < SYNCS + KERNELS:
            honest(step, rows)
        elif device == "cpu":
            with Copies() as copies, Counts() as counted:
                honest(step, rows)
            waits.update(counted.waits + copies.waits if number < SYNCS else {})
            kernels.append(counted.kernels)
        elif number < SYNCS:
            with waits_of_a_gpu(waits):
                honest(step, rows)
        else:
            kernels.append(kernels_of_a_gpu(lambda: honest(step, rows)))

    points, schedules.LOG_POINTS, Step.take = schedules.LOG_POINTS, 1, take
    if device == "cpu":
        always_given()  # as on a GPU
    try:
        run(read(compose(words)), folder)
    finally:
        as_transformers_has_them()
        schedules.LOG_POINTS, Step.take = points, honest
    per_step = {name: count / SYNCS for name, count in sorted(waits.items())}
    return {
        "waits_per_step": sum(per_step.values()), "places": per_step, "kernels_per_step": max(kernels),
    }  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    place_of_run, kind, *settings = sys.argv[1:]
    print(json.dumps(measured(settings, Path(place_of_run), kind)))
