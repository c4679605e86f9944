"""Heads of ours, on pooled features or as contrastive learning's projection, and what is below any head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FILE = "projection.safetensors"
HALVES = ("encoder", "decoder")  # what holds the layers of a network that has both
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


def lists_of_layers(backbone: nn.Module) -> dict[str, int]:
    """The lists that hold the layers, by their names, each with the number of layers below its first.

    Of the lists that stand in no other one the longest: so Swin's layers are its four stages. Lists as long
    beside it make its layers together with it (XLM), and a decoder's layers come after its encoder's.
    Raises ConfigError for a network without a list.
    """
    lists: dict[str, int] = {}
    for name, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in lists):
            lists[name] = len(module)
    if not lists:
        raise ConfigError(f"{type(backbone).__name__} has no list of layers; ftrun cannot cut it into stages")
    longest = holder(max(lists, key=lambda name: lists[name]))
    homes = [longest]
    if longest.split(".")[-1] in HALVES:
        homes = [home for home in dict.fromkeys(map(holder, lists)) if home.split(".")[-1] in HALVES]
    found: dict[str, int] = {}
    below = 0
    for home in homes:
        own = {name: size for name, size in lists.items() if holder(name) == home}
        depth = max(own.values())
        found |= {name: below for name, size in own.items() if size == depth}
        below += depth
    return found


def holder(name: str) -> str:
    """The name of the module that a module is in."""
    return name.rpartition(".")[0]


def layers_of(backbone: nn.Module) -> nn.ModuleList:
    """Every layer of a network, as one module."""
    return nn.ModuleList(backbone.get_submodule(name) for name in lists_of_layers(backbone))


def embeddings_of(backbone: nn.Module, lists: dict[str, int]) -> Iterator[str]:
    """The names of what is below the first layer, modules and single weights.

    These are the parts of the network before the one that holds the layers, and embeddings wherever they are
    outside of layers: those of OPT, BART and DeBERTa stand beside the list.
    """
    children = [name for name, _ in backbone.named_children()]
    first = min(children.index(name.split(".")[0]) for name in lists)
    yield from children[:first]
    for home in dict.fromkeys(map(holder, lists)):
        module = backbone.get_submodule(home)
        parts = [*module.named_children(), *module.named_parameters(recurse=False)]
        for own, part in parts:
            name = f"{home}.{own}" if home else own
            if name not in lists and name not in children[:first] and is_embedding(own, part):
                yield name


def is_embedding(name: str, part: object) -> bool:
    return "emb" in name.lower() or isinstance(part, nn.Embedding)
