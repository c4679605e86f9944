"""The memory that a run will need, of which nothing is loaded: from shapes, and a step without numbers."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import nn

from ftrun.errors import UserError, told
from ftrun.models.files.reading import memory_of_machine
from ftrun.models.load import on_outline, outline
from ftrun.models.model import Model
from ftrun.models.pooling import resolved
from ftrun.settings.read import FIXED
from ftrun.training.dry import step_bytes, without_numbers
from ftrun.training.tensor_files import MOST as FILE

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings

PROCESS = 550_000_000  # bytes of Python with all that a run imports, measured on Linux without a GPU
CONTEXT = 600_000_000  # of CUDA and its libraries on a GPU, about
SMALL = 4096  # numbers of a weight, below which adamw8bit keeps its moments in fp32 (bitsandbytes)
BLOCK = 256  # numbers that share a scale of its moments
MOMENTS = {  # bytes of each weight; of muon's at most, as embeddings and heads have AdamW's
    "adamw": 8.0, "sgd": 4.0, "lars": 4.0, "adamw8bit": 2.0 + 8 / BLOCK, "muon": 8.0, "schedulefree": 8.0,
    "adafactor": 0.1,
}  # fmt: skip
AVERAGES = {"none": 0, "ema": 1, "soup": 2}  # copies of the trained weights that train.average holds
SMALLS = MOMENTS | {"adamw8bit": 8.0, "adafactor": 4.0}  # of weights of few numbers
# On a CPU, what steps and scoring hold becomes this much, measured with glibc 2.36: it keeps what is freed
# in pieces below 32 MB, and scoring needs others. With MALLOC_MMAP_THRESHOLD_=1000000 it is what is held.
KEPT = 1.15, 1.4
FEATURES = 8  # rows of a forward pass on a CPU where a head is solved for
SEEN = 3, 2  # layers of a network of many alike of which a step is made, for what each one more takes
PAIR = 2  # the fewest processes that can share a network


@dataclass(frozen=True)
class Sizes:
    """What a network and a step of it take, in bytes; of weights how many numbers they are."""

    trained: int
    small: int  # of these, in tensors below `SMALL`
    frozen: int
    brought: int  # of the frozen ones, by the checkpoint
    stage: int  # of the largest stage
    largest: int  # frozen tensor
    buffers: int
    step: int  # gradients and what lies between forward and backward, at most
    scoring: int
    unknown: str  # why the last two are not known; empty where they are


@dataclass(frozen=True)
class Need:
    """Bytes of one process."""

    weights: int
    moments: int
    held: int  # by a strategy that holds weights
    work: int  # a step, the scoring of rows or the check of the saved network, whichever takes most
    base: int  # of the process itself

    @property
    def peak(self) -> int:
        return self.weights + self.moments + self.held + self.work + self.base


def needed_bytes(settings: Settings, length: int | None = None) -> int:
    """The memory of a process that runs these settings at its peak: in RAM, with a GPU on that.

    `length` are the tokens of its longest row; None: as many as its task allows. A batch at `auto` counts as
    the largest one that it may become. The first call for a network takes up to a few seconds, every further
    one with the same network, strategy and batch a millisecond. Raises ConfigError as `outline` does.
    """
    return need_of(settings, sizes_of(settings, length)).peak


def sizes_of(settings: Settings, length: int | None) -> Sizes:
    """What is known of the network, once for all settings that have the same."""
    train, strategy = settings.train, settings.strategy
    spec = settings.task.spec(None)
    longest = getattr(spec.inputs, "max_length", 0)
    tokens = min(length or longest, longest)
    own = {name: value for name, value in settings.raw.items() if name not in FIXED}
    key = repr([settings.raw["task"], settings.model, settings.strategy_name, sorted(own.items())])
    several = train.micro_batch is not None and train.micro_batch < train.batch_size
    size = FEATURES // 4 if strategy.solved else train.micro_batch or train.batch_size
    bf16 = train.precision in ("bf16", "fp16") or train.precision == "auto" and on_gpu(settings)
    known = key, size, tokens, bf16, train.checkpoint_layers is True, several, strategy.solved
    if known not in _KNOWN:
        _KNOWN[known] = measured(settings, size, tokens, bf16, several)
    return _KNOWN[known]


_KNOWN: dict[Any, Sizes] = {}


def measured(settings: Settings, size: int, tokens: int, bf16: bool, several: bool) -> Sizes:
    spec = settings.task.spec(None)
    model = outline(resolved(settings.model, spec), spec, any_size=True)
    brought = {id(p) for name, p in model.named_parameters() if name not in model.fresh}
    on_outline(model, settings.strategy.prepare)
    trained = list(model.trained().values())
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    stages: dict[int, int] = {}
    for name, parameter in model.named_parameters():
        stage = model.stage_of(name)
        stages[stage] = stages.get(stage, 0) + parameter.numel()
    step, scoring, unknown = worked(settings, model, size, tokens, bf16, several)
    return Sizes(
        trained=sum(counts := [p.numel() for p in trained]),
        small=sum(count for count in counts if count < SMALL),
        frozen=sum(p.numel() for p in frozen),
        brought=sum(p.numel() for p in frozen if id(p) in brought),
        stage=max(stages.values()),
        largest=max((p.numel() for p in frozen), default=0),
        buffers=buffers,
        step=step,
        scoring=scoring,
        unknown=unknown,
    )


def worked(
    settings: Settings, model: Model, size: int, tokens: int, bf16: bool, several: bool
) -> tuple[int, int, str]:
    """What a step and scoring take; where the network cannot compute without numbers, the reason."""
    twice, spec = settings.train.checkpoint_layers is True, settings.task.spec(None)
    layers, depth = alike(model), model.depth
    try:
        if layers is None or depth <= max(SEEN):
            with without_numbers(model):
                found = step_bytes(model, spec, size, tokens, bf16, twice, several)
        else:
            pair = []
            del layers[SEEN[0] :]
            with without_numbers(model):
                for count in SEEN:
                    del layers[count:]
                    cut = Model(model.net, None, model.source, set())
                    pair.append(step_bytes(cut, spec, size, tokens, bf16, twice, several))
            lines = [(less, max(0, more - less)) for more, less in zip(*pair, strict=True)]
            step, scoring = (least + each * (depth - SEEN[1]) for least, each in lines)
            found = step, scoring
    except UserError:
        raise
    except Exception as error:  # whatever code of a network does with values that are not there
        return 0, 0, f"{type(error).__name__}: {told(error, 80)}"
    step, scoring = found
    return (0 if settings.strategy.solved else step), scoring, ""


def alike(model: Model) -> nn.ModuleList | None:
    """The list of a network's layers where all are of the same shapes and train the same weights."""
    names = [model.layer_names[stage] for stage in range(1, model.depth + 1)]
    holders = {name.rpartition(".")[0] for own in names for name in own}
    if len(holders) != 1:
        return None
    layers = model.get_submodule(holders.pop())
    kinds = {
        str([(name, p.shape, p.requires_grad) for name, p in layer.named_parameters()])
        for layer in layers.children()
    }
    return layers if isinstance(layers, nn.ModuleList) and len(kinds) == 1 else None


def need_of(settings: Settings, sizes: Sizes, processes: int = 1, shard: bool = False) -> Need:
    """The memory of one process among `processes`, each with the whole network or with a `shard` of it.

    The sum of weights, the optimizer's moments and what a strategy holds, and the most of: a step; scoring;
    what is read back of the saved network, tensor by tensor, and is not frozen. Of frozen weights in bf16 one
    at a time is in fp32 as well. DDP keeps gradients in buckets too. A process that has a shard gathers one
    stage at a time, and the next one ahead, in fp32 (Zhao et al. 2023, PyTorch FSDP); on a CPU the first one
    has the whole network when it is saved, and a file of moments for a checkpoint.
    """
    train, each, gpu = settings.train, 2 if settings.half else 4, on_gpu(settings)
    weights = 4 * (sizes.trained + sizes.frozen - sizes.brought) + each * sizes.brought + sizes.buffers
    steps = not settings.strategy.solved
    large, small = sizes.trained - sizes.small, sizes.small
    moments = steps * round(MOMENTS[train.optimizer] * large + SMALLS[train.optimizer] * small)
    copies = settings.guard.copies + steps * AVERAGES[train.average] + (train.optimizer == "schedulefree")
    held = 4 * copies * sizes.trained
    gradients = steps * 4 * sizes.trained
    base = PROCESS + (CONTEXT if gpu else 0)
    one = 4 * sizes.largest  # in fp32, or twice in bf16: as it is read, and as a tensor
    again = weights if settings.model.rounded else 4 * sizes.trained + one
    if shard:
        again = 0 if gpu else max(weights, min(moments, FILE))
    step = sizes.step + (gradients if processes > 1 else 0) + (one if settings.half else 0)
    if shard:
        weights, moments, held, own = (
            math.ceil(part / processes) for part in (weights, moments, held, gradients)
        )
        step = max(sizes.step - gradients, 0) + own + 2 * 4 * sizes.stage
    work = max(step, sizes.scoring) if gpu else round(KEPT[0] * step + KEPT[1] * sizes.scoring)
    return Need(weights, moments, held, max(work, again), base)


def on_gpu(settings: Settings) -> bool:
    import torch

    return settings.device != "cpu" and torch.cuda.is_available()


def room(settings: Settings) -> int | None:
    """Bytes that a process can have here: of the GPU that it would take, else of the machine."""
    import torch

    if on_gpu(settings):
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    return memory_of_machine()


@cache
def processes_here() -> int:
    """How many processes torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))
