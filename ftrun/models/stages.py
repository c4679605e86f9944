"""The stages of a network: embeddings, the layers from the bottom up, and what stands above them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ftrun.errors import ConfigError

HALVES = ("encoder", "decoder")  # what holds the layers of a network that has both


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
