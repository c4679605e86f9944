"""The pre-training head of a checkpoint on the backbone that is being fine-tuned."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ftrun.data.batching import EpochBatches
from ftrun.errors import ConfigError
from ftrun.models.files.locate import locate
from ftrun.models.files.pretrained import pretrained
from ftrun.models.heads import backbone_of
from ftrun.models.load import quiet
from ftrun.models.model import Model
from ftrun.runs.cache import making
from ftrun.runs.files import umask_mode, unique
from ftrun.runs.terminal import say
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import SPLITS, sizes_of
from ftrun.tasks.objective import targets_of

if TYPE_CHECKING:
    from ftrun.models.spec import Spec
    from ftrun.settings.protocols import Task
    from ftrun.settings.schema import ModelSettings
    from ftrun.tasks.dataset import Batch

FIT_BATCHES, FIT_BATCH, FIT_PASSES, FIT_LR = 100, 32, 3, 1e-3  # for a checkpoint without a pre-training head


class PretrainingHead(Model):
    """A language model with a shared backbone, whose head can be computed alone."""

    def head(self, states: Tensor) -> Tensor:
        """The head alone, which works on every position for itself: (chosen, width) to logits."""
        name = self.net.base_model_prefix
        backbone = self.net._modules[name]
        self.net._modules[name] = FixedBackbone(states.unsqueeze(0))
        try:
            ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
            return self.net(input_ids=ids).logits[0]
        finally:
            self.net._modules[name] = backbone


class FixedBackbone(nn.Module):
    """A backbone that returns fixed states."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self.states)


def open_pretraining_head(
    task: Task, checkpoint: ModelSettings, model: Model
) -> tuple[TaskData, PretrainingHead, bool]:
    """The checkpoint's language-model head on the model's backbone, and whether it had to be fitted.

    Raises ConfigError for random weights, which have no pre-training.
    """
    spec = task.spec(locate(checkpoint).config({}))
    if checkpoint.init == "random":
        raise ConfigError("source=pretraining: model.init=random has no pre-training to forget")
    found, missing = pretrained_head(spec, checkpoint, model)
    net: Any = found.net
    data = TaskData(task, task.load(0), spec)
    for note in data.rows.notes:
        say(note)
    data.encode(model.tokenizer, *SPLITS)
    if missing:  # on the checkpoint's own backbone, whatever a strategy has put into the model's
        fitted(found, data, digest(net, data))
    setattr(net, net.base_model_prefix, backbone_of(model.net))
    net.tie_weights(recompute_mapping=False)  # and not what the checkpoint left untied
    return data, found, bool(missing)


def uniform_loss(model: PretrainingHead) -> float:
    """The loss of a uniform guess over the vocabulary, in nats per token."""
    return math.log(model.net.config.vocab_size)


def pretrained_head(spec: Spec, checkpoint: ModelSettings, model: Model) -> tuple[PretrainingHead, list[str]]:
    """The checkpoint with the head of its pre-training, and the weights of it that are not there."""
    place = locate(checkpoint)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        net, fresh = pretrained(spec.auto_class, place, place.label, dtype=torch.float32)
    prefix = net.base_model_prefix
    missing = [name for name in fresh if not name.startswith(prefix + ".")]
    device = next(model.parameters()).device
    return PretrainingHead(net.to(device), model.tokenizer, model.source, set()), missing


def digest(net: nn.Module, data: TaskData) -> str:
    """Of all that a fitted head depends on."""
    length = getattr(data.spec.inputs, "max_length", None)
    found = hashlib.sha256(
        f"{data.rows.fingerprint} {length} {FIT_BATCHES} {FIT_BATCH} {FIT_PASSES} {FIT_LR}".encode()
    )
    for name, value in net.state_dict().items():
        found.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def fitted(model: PretrainingHead, data: TaskData, key: str) -> None:
    """Fit the head, or take the one that was fitted before for the same network and text."""
    inside = {id(parameter) for parameter in backbone_of(model.net).parameters()}
    head = {name: p for name, p in model.named_parameters() if id(p) not in inside}
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ftrun" / f"head-{key}.safetensors"
    )
    if not cache.is_file():
        with making(cache):
            if not cache.is_file():  # made by another process, for which this one has waited
                fit(model, data, list(head.values()))
                cache.parent.mkdir(parents=True, exist_ok=True)
                beside = cache.with_suffix(f".{unique()}")
                save_file({name: p.detach().contiguous() for name, p in head.items()}, beside)
                umask_mode(beside)
                beside.replace(cache)
                return
    say(f"{model.source} has no pre-training head; using the one fitted in an earlier run")
    kept = load_file(cache)
    for name, parameter in head.items():
        parameter.data.copy_(kept[name])


def fit(model: PretrainingHead, data: TaskData, head: list[nn.Parameter]) -> None:
    """Train the head on the frozen backbone, from the same start every time."""
    say(f"{model.source} has no pre-training head; fitting one on the frozen network")
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.eval().requires_grad_(False)
    for parameter in head:
        parameter.requires_grad_(True)
    kept = [states_of(model, data, rows) for rows in fitting_batches(data)]
    optimizer = torch.optim.AdamW(head, lr=FIT_LR, weight_decay=0.0)
    steps = FIT_PASSES * len(kept)
    for step in range(steps):
        states, batch = kept[step % len(kept)]
        loss = data.objective.loss(model.head(states), batch)
        mean = loss.sum / targets_of(data.objective, batch)
        mean.backward()
        for group in optimizer.param_groups:
            group["lr"] = FIT_LR * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(wanted[name])
    last, guess = mean.item(), uniform_loss(model)
    say(f"fitted in {steps} steps; its last loss was {last:.2f} nats per token (uniform guess: {guess:.2f})")


def fitting_batches(data: TaskData) -> list[list[int]]:
    """Batches of training examples, at most FIT_BATCHES of them."""
    return EpochBatches(sizes_of(data.dataset("train")), FIT_BATCH, 0, 0)[:FIT_BATCHES]


@torch.no_grad()
def states_of(model: PretrainingHead, data: TaskData, rows: list[int]) -> tuple[Tensor, Batch]:
    """The states of the frozen backbone at the tokens to predict, (chosen, width), and their batch."""
    dataset = data.dataset("train")
    batch = dataset.collate([dataset[row] for row in rows])
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
    states = backbone_of(model.net)(**inputs).last_hidden_state
    return states.flatten(0, 1)[batch["positions"].to(device)], batch
