"""Heads of ours: one on pooled features, and contrastive learning's projection in a classifier's place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = "projection.safetensors"
PLACE = "classifier"  # where the networks for images have their head


class Projection(nn.Module):
    """Two layers with a ReLU between them (Chen et al. 2020): features (images, width, …) to embeddings.

    The output is features and embeddings side by side: the embeddings are trained, the features kept.
    """

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(features, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        """(images, features + width)."""
        features = features.flatten(1)
        return torch.cat([features, self.outer(self.inner(features).relu())], 1)


def project(net: nn.Module, hidden: int | None, width: int, checkpoint: str | None) -> set[str]:
    """Put a projection in place of the classifier: that of the checkpoint if it fits, else a new one.

    Returns the names of its weights where they are new. ConfigError for a network with another kind of head.
    """
    layers = [
        module for module in getattr(net, PLACE, nn.Identity()).modules() if isinstance(module, nn.Linear)
    ]
    if len(layers) != 1:
        raise ConfigError(
            f"a {type(net).__name__} has no classifier of one linear layer on its features, in whose place a"
            " projection could stand; possible: ResNet, ViT, and model=resnet_small, vit_tiny, cnn_small"
        )
    features = layers[0].in_features
    head = Projection(features, hidden or features, width)
    setattr(net, PLACE, head)
    kept = Path(checkpoint or "") / FILE
    if checkpoint is not None and kept.is_file():
        tensors = load_file(kept)
        if {n: v.shape for n, v in tensors.items()} == {n: v.shape for n, v in head.state_dict().items()}:
            head.load_state_dict(tensors)
            return set()
    return {f"{PLACE}.{name}" for name, _ in head.named_parameters()}


def save_beside(net: nn.Module, directory: Path) -> None:
    """Write the projection, where there is one, beside the network that is saved without it."""
    if isinstance(head := getattr(net, PLACE, None), Projection):
        tensors = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
        save_file(tensors, directory / FILE)


def restore(net: nn.Module, directory: Path) -> None:
    """Put the projection that was saved beside a network back in its place, where there is one."""
    if (directory / FILE).is_file():
        tensors = load_file(directory / FILE)
        hidden, features = tensors["inner.weight"].shape
        head = Projection(features, hidden, len(tensors["outer.bias"]))
        head.load_state_dict(tensors)
        setattr(net, PLACE, head)


def without(names: Iterable[str], net: nn.Module) -> list[str]:
    """The names of weights of a network but for its projection's."""
    apart = isinstance(getattr(net, PLACE, None), Projection)
    return [name for name in names if not (apart and name.startswith(f"{PLACE}."))]


class Pooled(nn.Module):
    """A backbone whose output is pooled at the first token or over all tokens, and one linear layer.

    `max_length` is that of the texts, in tokens, for those who read the network from the disk.
    """

    def __init__(self, backbone: nn.Module, pooling: str, classes: int, max_length: int | None = None):
        super().__init__()
        self.config = backbone.config
        self.pooling = pooling
        self.max_length = max_length
        self.backbone = backbone
        self.dropout = nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.1))
        self.classifier = nn.Linear(self.config.hidden_size, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **inputs: Tensor) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **inputs).last_hidden_state
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weights).sum(1) / weights.sum(1)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pooled)))


def backbone_of(net: nn.Module) -> nn.Module:
    return net.backbone if isinstance(net, Pooled) else net.base_model


def name_of(net: nn.Module, part: nn.Module) -> str:
    return next(name for name, module in net.named_modules() if module is part)
