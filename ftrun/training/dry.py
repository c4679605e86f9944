"""A training step without numbers: what it would hold in memory, found on tensors that have a shape only."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ftrun.models.architecture import LANGUAGE, is_decoder
from ftrun.models.spec import ImageInput
from ftrun.models.vocabulary import LARGE, words_of
from ftrun.training.gradients.recompute import recomputing

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.models.spec import Spec

MASKED = 0.15  # of the tokens are predicted by a network for masked ones (Devlin et al. 2019)
PIXELS = 224  # of a side, where neither task nor network says


class Held(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is on, as long as each of them lives."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {store.data for store in map(key_of, tree_leaves((args, kwargs))) if store is not None}
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            store = key_of(value)
            if store is not None and store.data not in given and store.data not in self._known:
                self.add(store)
        return found

    def add(self, store: Stored) -> None:
        size, key = store.size, store.data

        def gone(_: Any) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(store.storage, gone)
        self.now += size
        self.most = max(self.most, self.now)


class Stored:
    """The memory behind a tensor."""

    def __init__(self, storage: Any) -> None:
        self.storage, self.data, self.size = storage, storage._cdata, int(storage.nbytes())


def key_of(value: Any) -> Stored | None:
    return Stored(value.untyped_storage()) if isinstance(value, Tensor) else None


def step_bytes(
    model: Model, spec: Spec, size: int, length: int, bf16: bool, twice: bool, several: bool
) -> tuple[int, int]:
    """The most bytes that a step holds beside weights and optimizer, and those of scoring four times as many.

    `model` is `without_numbers`, `size` the examples of a forward pass, `length` their tokens. `twice` is
    whether layers are computed twice (train.checkpoint_layers), `several` whether gradients are there
    already, of other parts of a batch. Raises what a network raises that cannot compute so.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model.train()
        with recomputing(model) if twice else nullcontext(), Held() as step:
            for _ in range(1 + several):
                loss = loss_of(model, spec, size, length)
                if loss.requires_grad:
                    loss.backward()
        model.zero_grad()
        model.eval()
        with torch.no_grad(), Held() as scoring:
            loss_of(model, spec, 4 * size, length)
    return step.most, scoring.most


@contextmanager
def without_numbers(model: Model) -> Iterator[None]:
    """Inside, an outline computes as on a CPU, in shapes alone."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        yield


def loss_of(model: Model, spec: Spec, size: int, length: int) -> Tensor:
    """A loss of examples that are all alike, as the task's in what it keeps of the outputs."""
    inputs = inputs_of(model, spec, size, length)
    labels = torch.zeros(size, length, dtype=torch.long)
    net: Any = model.net
    if spec.auto_class in LANGUAGE and is_decoder(net.config):
        head = net.get_output_embeddings()
        if head is not None and words_of(head) >= LARGE:
            whole: Tensor = model(**inputs, targets=labels).sum()
            return whole
        return cross_entropy(model(**inputs))
    if spec.auto_class in LANGUAGE:
        chosen = max(1, round(MASKED * size * length))
        head = net.get_output_embeddings()
        handle = head.register_forward_pre_hook(lambda _, given: (given[0].flatten(0, 1)[:chosen],))
        try:
            return cross_entropy(model(**inputs))
        finally:
            handle.remove()
    outputs = model(**inputs)
    return cross_entropy(outputs) if outputs.ndim == 3 else outputs.float().sum()


def cross_entropy(logits: Tensor) -> Tensor:
    flat = logits.float().flatten(0, -2)
    targets = torch.zeros(len(flat), dtype=torch.long)
    found: Tensor = torch.nn.functional.cross_entropy(flat, targets, reduction="sum")
    return found


def inputs_of(model: Model, spec: Spec, size: int, length: int) -> dict[str, Tensor]:
    """What the network takes by name, of zeros."""
    wanted, config = spec.inputs, model.net.config
    if isinstance(wanted, ImageInput):
        side = getattr(config, "image_size", None) or PIXELS
        side = wanted.size or (side if isinstance(side, int) else side[0])
        channels = wanted.channels or getattr(config, "num_channels", None) or 3
        return {"pixel_values": torch.zeros(size, *(wanted.shape or (channels, side, side)))}
    ids = torch.zeros(size, length, dtype=torch.long)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
