"""CUDA graphs: forward and backward of a micro-batch as one launch, with the numbers of the eager pass.

A small batch's thousand kernels are computed in less time than they are launched in. What is captured is the
eager pass itself, so its kernels are the same (Ng et al. 2021, "Accelerating PyTorch with CUDA Graphs").
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ftrun.errors import out_of_memory
from ftrun.runs.terminal import say
from ftrun.tasks.objective import is_capturable
from ftrun.tasks.placing import copied, tensors_of

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings, Train
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch

Pass = Callable[["Batch", "float | Tensor"], Tensor]  # batch, weight of its loss → the loss, detached
EAGER = 2  # passes over a key before it is captured: what is allocated once is allocated then
MOST = 24  # graphs; the lengths of a task to 128 tokens are 16 at most
WAIT = "called a synchronizing"  # by torch, of an operation for which the host waits
MULTIPLE = 8  # tokens: lengths are rounded up to one, so that there are few keys


class Backend(Protocol):
    """Records passes and replays them."""

    def eager(self, work: Callable[[], Tensor]) -> tuple[Tensor, str | None]:
        """Do it as it is; returns its result, and what in it cannot be recorded."""

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record it without doing it; returns what does it."""

    def forget(self) -> None:
        """Nothing that was recorded is replayed again."""


class Cuda:
    """CUDA graphs in one memory pool; all passes share a stream, as capturing needs one of its own."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        self.forget()

    def forget(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()  # that of graphs that are gone cannot be used again

    def eager(self, work: Callable[[], Tensor]) -> tuple[Tensor, str | None]:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream), waits_noticed() as noticed:
            found = work()
        torch.cuda.current_stream().wait_stream(self.stream)
        return found, noticed[0] if noticed else None

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            found = work()

        def replay() -> Tensor:
            graph.replay()
            return found

        return replay


@contextmanager
def waits_noticed() -> Iterator[list[str]]:
    """The warnings about each place where the host waits for the GPU, which no graph can hold."""
    noticed: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield noticed
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if WAIT in str(warning.message):
            noticed.append(str(warning.message))
        else:
            warnings.warn(warning.message, warning.category, stacklevel=3)


@dataclass
class Captured:
    """A recorded pass, the tensors it reads, and the result that it writes."""

    inputs: list[Tensor]
    weight: Tensor
    replay: Callable[[], Tensor]


class Graphs:
    """The graphs of a run by key, the names, shapes and types of a batch's tensors.

    A key is seen twice eagerly and captured the third time. Gradients stay where they are, as a graph adds to
    those that it has been captured with: they are zeroed, not dropped.
    """

    def __init__(self, backend: Backend, parameters: list[nn.Parameter]) -> None:
        self.backend, self.parameters = backend, parameters
        self.seen: Counter[Any] = Counter()
        self.captured: dict[Any, Captured] = {}
        self.gradients: dict[nn.Parameter, Tensor] = {}  # those that the graphs add to
        self.refusal: str | None = None  # why nothing more is captured
        self.counts = {"captured": 0, "replayed": 0, "eager": 0}  # passes

    def run(self, work: Pass, batch: Batch, weight: float, whole: bool) -> Tensor:
        """The loss of a pass; `whole` says whether the batch is one of many of its size."""
        key = tuple((name, value.shape, value.dtype) for name, value in tensors_of(batch))
        if key not in self.captured:
            if not whole or self.refusal is not None or len(self.captured) >= MOST:
                self.counts["eager"] += 1
                return work(batch, weight)
            if not (self.seen[key] >= EAGER and self.capture(key, work, batch, weight)):
                return self.eager(key, work, batch, weight)
        graph = self.captured[key]
        self.attach()
        torch._foreach_copy_(graph.inputs, [value for _, value in tensors_of(batch)])
        graph.weight.fill_(weight)
        self.counts["replayed"] += 1
        return graph.replay()

    def eager(self, key: Any, work: Pass, batch: Batch, weight: float) -> Tensor:
        """A pass as it is, which shows what in it cannot be captured."""
        self.counts["eager"] += 1
        self.seen[key] += 1
        found, problem = self.backend.eager(lambda: work(batch, weight))
        if problem is not None:
            self.refuse(problem)
        return found

    def capture(self, key: Any, work: Pass, batch: Batch, weight: float) -> bool:
        """Record this pass, unless a weight has no gradient yet to add to; whether it is recorded."""
        moved = [parameter for parameter in self.parameters if parameter.requires_grad]
        if any(parameter.grad is None for parameter in moved):
            return False
        self.attach()
        self.gradients |= {parameter: parameter.grad for parameter in moved if parameter.grad is not None}
        static = copied(batch)
        inputs = [value for _, value in tensors_of(static)]
        scale = torch.full((), weight, device=inputs[0].device)
        try:
            replay = self.backend.record(lambda: work(static, scale))
        except Exception as error:  # whatever a network does that no graph holds: the eager pass is right
            if out_of_memory(error):
                raise
            self.refuse(f"{type(error).__name__}: {error}")
            return False
        self.captured[key] = Captured(inputs, scale, replay)
        self.counts["captured"] += 1
        return True

    def attach(self) -> None:
        """Make the gradients those that the graphs add to, where something has put others in their place."""
        for parameter, static in self.gradients.items():
            if parameter.grad is not static:
                if parameter.grad is None:
                    static.zero_()
                else:
                    static.copy_(parameter.grad)
                parameter.grad = static

    def refuse(self, reason: str) -> None:
        """Go on without graphs, and say why once."""
        if self.refusal is None:
            self.refusal = reason.strip().splitlines()[0]
            say(f"CUDA graphs: none from here on, as this step cannot be captured: {self.refusal}")
        self.drop()

    def drop(self) -> None:
        """Free all graphs: their stages, their sizes or the memory are no longer what they were."""
        self.captured, self.gradients = {}, {}
        self.backend.forget()


def backend_of(device: torch.device) -> Backend | None:
    """What captures on this device, if anything does."""
    return Cuda() if device.type == "cuda" else None


def opened(model: Model, data: TaskData, settings: Settings, accelerator: Accelerator) -> Graphs | None:
    """The graphs of a run, of which a line is said; None where nothing is captured."""
    backend = backend_of(accelerator.device)
    if backend is None:
        return None
    reason = obstacle(model, data, settings.train, accelerator)
    if reason is not None:
        say(f"CUDA graphs: none: {reason}")
        return None
    say("CUDA graphs: of each length, once batches of it have come twice (train.graphs=auto)")
    return Graphs(backend, list(model.parameters()))


def obstacle(model: Model, data: TaskData, train: Train, accelerator: Accelerator) -> str | None:
    """Why the passes of this run are not captured; None where they are."""
    if not train.graphs:
        return "train.graphs=false"
    if accelerator.num_processes > 1:
        return "several processes wait for each other in the backward pass"
    if accelerator.scaler is not None:
        return "the scale of train.precision=fp16 changes"
    if not is_capturable(data.objective):
        return f"the loss of task={data.task.name} depends on the step or on earlier batches"
    rows = data.dataset("train")
    if "order" in rows.collate([rows[0]]):
        return "the losses of tokens and of pairs are counted apart"
    if model.batch_norms():
        return "batch normalisation keeps statistics"
    if train.compile:
        return "train.compile=true has kernels of its own"
    if train.checkpoint_layers is True:
        return "train.checkpoint_layers=true computes layers again"
    return None
