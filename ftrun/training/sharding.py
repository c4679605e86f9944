"""train.shard: weights, gradients and moments split over the processes, by PyTorch's FSDP2 (`fully_shard`).

Fully sharded data parallelism (Rajbhandari et al. 2020, ZeRO stage 3; Zhao et al. 2023): each process holds
some rows of every weight, and a layer is whole only while it computes. Stages are split one by one, and what
is outside of them together. Between two passes every weight is a DTensor: see `ftrun.models.split`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ftrun.errors import ConfigError
from ftrun.models.few_bits.half import halve, unwrap
from ftrun.models.split import nbytes, whole
from ftrun.runs.collector import return_what_is_free
from ftrun.runs.terminal import say
from ftrun.training.reached import ROUTED

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.settings.protocols import Strategy
    from ftrun.settings.schema import Settings
    from ftrun.training.source_task import SourceTask


def splits(settings: Settings, accelerator: Accelerator) -> bool:
    """Whether the weights of a run are split: one process has all of them in any case."""
    return settings.train.shard and accelerator.num_processes > 1


def home(settings: Settings, accelerator: Accelerator) -> torch.device:
    """Where a network is until it is split: it may be larger than the memory of the device."""
    return torch.device("cpu") if splits(settings, accelerator) else accelerator.device


def split(
    settings: Settings, model: Model, sources: list[SourceTask], accelerator: Accelerator
) -> Sharded | None:
    """The model, and those of its sources, split over the processes where that is asked for."""
    if splits(settings, accelerator):
        return Sharded(model, [source.model for source in sources], accelerator)
    if settings.train.shard:
        say("train.shard=true: one process holds all; to split it: torchrun --nproc-per-node 2 -m ftrun")
    return None


def refuse_unsplittable(model: Model, strategy: Strategy) -> None:
    """ConfigError for a network, of which an outline is enough, that cannot be trained in rows."""
    if strategy.solved:
        raise ConfigError(
            "train.shard=true splits what optimizer steps train, and solver=lbfgs solves for its head on"
            " features of the whole network; possible: solver=adamw, or train.shard=false"
        )
    if model.batch_norms():
        raise ConfigError(
            f"train.shard=true: the batch normalisation of {model.name} keeps statistics of each process's"
            " own examples; possible: train.shard=false, or a network without it, such as model=vit_tiny"
        )
    scalars = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
    if scalars:
        raise ConfigError(
            f"train.shard=true: {scalars[0].removeprefix('net.')} of {model.name} is a single number, which"
            " has no rows; possible: train.shard=false"
        )


class Root(nn.Module):
    """What FSDP2 takes for the network: the model of a run, and those of earlier tasks on its backbone."""

    def __init__(self, models: list[Model]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, number: int | None = 0, **inputs: Any) -> Any:
        """What a model makes of its inputs; with None it computes nothing."""
        if number is None:
            return None
        model = self.models[number]
        return solid(type(model).forward(model, **inputs))

    def train(self, mode: bool = True) -> Root:
        """Of the model of the run; the others keep their mode."""
        self.training = mode
        self.models[0].train(mode)
        return self


def solid(output: Any) -> Any:
    """Tensors in memory of their own: an operation in place on a view would lose FSDP2's hook on it."""
    if isinstance(output, torch.Tensor):
        return output.clone() if output._is_view() else output
    return type(output)(*map(solid, output))


class Sharded:
    """A model whose weights are split over all processes, with those of earlier tasks that share them.

    Each is called as before, and every process calls the same ones equally often: a pass gathers weights.
    """

    def __init__(self, model: Model, pasts: list[Model], accelerator: Accelerator) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        if accelerator.device.type == "cpu":
            return_what_is_free()
        self.model, self.main = model, accelerator.is_main_process
        models = list({id(each): each for each in [model, *pasts]}.values())
        own: Any = Root(models)
        unwrap(own)  # layers are gathered in what they compute in
        self.outline = outline_of(model) if self.main else None
        apart = separate(layers_of(model), own)
        for parameter in own.parameters():
            if not parameter.is_contiguous():
                parameter.data = parameter.data.contiguous()
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        computed = computing_dtype(own, accelerator.mixed_precision)
        # the root is put away after a pass as well, so that outside of passes everything is split
        common: dict[str, Any] = {"mesh": mesh, "reshard_after_forward": True}
        for layer in apart:
            fully_shard(layer, mp_policy=policy(computed), **common)
        fully_shard(own, mp_policy=policy(computed, torch.float32), **common)
        self.root: Any = own
        for number, each in enumerate(models):
            each.forward = partial(own, number)  # type: ignore[method-assign]
        for module in own.modules():
            if hasattr(module, "set_force_sum_reduction_for_comms"):  # gloo has no mean
                module.set_force_sum_reduction_for_comms(accelerator.device.type == "cpu")
        if any(ROUTED in name for name, _ in model.named_parameters()):  # processes may reach other experts
            own.set_reduce_scatter_unused_params(True)
        own(None)  # FSDP2 looks in the first pass at which weights train
        gradients = sum(p.numel() * p.element_size() for p in model.trained().values())
        self.light = gradients <= sum(map(nbytes, own.parameters()))

    def syncing(self, last: bool) -> None:
        """Whether the gradients of the next backward pass are summed over processes, and each keeps its rows.

        They wait for the `last` micro-batch only where they are light: waiting, each process has all rows of
        them. So it is where little trains, as with LoRA: no more than this process's rows of all weights.
        """
        self.root.set_requires_gradient_sync(last or not self.light)

    @contextmanager
    def whole(self) -> Iterator[Model]:
        """The model in one piece on the CPU of the first process, gathered tensor by tensor; all call this.

        In the other processes it is the model as it is.
        """
        assert self.outline is not None or not self.main
        theirs = [*self.model.modules()]
        places: list[Any] = [None] * len(theirs) if self.outline is None else [*self.outline.modules()]
        known: dict[int, nn.Parameter] = {}
        former: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for module, place in zip(theirs, places, strict=True):
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in known:
                    found = whole(parameter).detach()
                    if place is not None:
                        known[id(parameter)] = nn.Parameter(found.cpu(), parameter.requires_grad)
                    else:
                        known[id(parameter)] = parameter
                if place is not None and parameter is not None:
                    former.append((place._parameters, {name: place._parameters[name]}))
                    place._parameters[name] = known[id(parameter)]
            for name, value in module._buffers.items():
                if place is not None and value is not None:
                    place._buffers[name] = value.detach().cpu().clone()
        del known
        if self.outline is not None:
            halve(self.outline)
        try:
            yield self.model if self.outline is None else self.outline.eval()
        finally:
            for parameters, values in former:
                parameters.update(values)


def layers_of(model: Model) -> list[nn.Module]:
    """The modules of the stages 1 to depth that are called: of lists what is in them."""
    waiting = [model.get_submodule(name) for s in range(1, model.depth + 1) for name in model.layer_names[s]]
    found: list[nn.Module] = []
    while waiting:
        module = waiting.pop(0)
        if isinstance(module, nn.ModuleList):
            waiting[:0] = list(module)
        elif next(module.parameters(), None) is not None:
            found.append(module)
    return found


def separate(layers: list[nn.Module], root: nn.Module) -> list[nn.Module]:
    """The layers that share no weight with another module; FSDP2 has the others together with the root."""
    inner = {id(module) for layer in layers for module in layer.modules()}
    shared = {id(p) for m in root.modules() if id(m) not in inner for p in m._parameters.values()}
    found = []
    for layer in layers:
        others = {id(p) for other in layers if other is not layer for p in other.parameters()}
        if not {id(p) for p in layer.parameters()} & (shared | others):
            found.append(layer)
    return found


def computing_dtype(root: nn.Module, precision: str) -> torch.dtype | None:
    """In what weights are gathered and computed: as they are, but with bf16 and where some are rounded."""
    if precision == "bf16":
        return torch.bfloat16
    return torch.float32 if len({parameter.dtype for parameter in root.parameters()}) > 1 else None


def policy(computed: torch.dtype | None, output: torch.dtype | None = None) -> Any:
    """Gradients are summed in fp32 whatever is computed in."""
    from torch.distributed.fsdp import MixedPrecisionPolicy

    if computed is None:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=computed, reduce_dtype=torch.float32, output_dtype=output)


def outline_of(model: Model) -> Model:
    """A copy of a model whose weights take no memory."""
    kept: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()
    }
    return copy.deepcopy(model, kept | {id(model.tokenizer): model.tokenizer})
