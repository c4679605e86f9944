"""Pretrained networks behind one interface: a backbone in stages, and a head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ftrun.models.architecture import is_decoder, is_language_model
from ftrun.models.few_bits.quantized import size_of
from ftrun.models.heads import Pooled, backbone_of, embeddings_of, lists_of_layers, name_of
from ftrun.models.logits import logits_of

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedTokenizerBase

    from ftrun.models.adapted.beside import Beside
    from ftrun.models.image_processor import ImageProcessor


class Model(nn.Module):
    """A network with its head, and its tokenizer or image reader; token ids or pixels in, logits out.

    Stage 0 is the embeddings, stage i the layer i-1, stage depth+1 everything above the layers: final norm,
    pooler and head. A network that begins with a layer has nothing in stage 0.
    """

    def __init__(
        self,
        net: nn.Module,
        tokenizer: PreTrainedTokenizerBase | ImageProcessor | None,
        source: str | None,
        fresh: set[str],
    ):
        super().__init__()
        self.net = net
        self.tokenizer = tokenizer
        self.source = source  # directory or Hub name of the checkpoint, None of random weights
        self.revision: str | None = None  # of a name on the Hub
        self.fresh = frozenset(f"net.{name}" for name in fresh)  # weights the checkpoint did not bring
        self.adapter: PeftConfig | Beside | None = None
        own = name_of(net, backbone_of(net))
        self._backbone = f"net.{own}." if own else "net."
        lists = lists_of_layers(backbone_of(net))
        self._lists = {f"{self._backbone}{name}": below for name, below in lists.items()}
        self._below = [f"{self._backbone}{name}" for name in embeddings_of(backbone_of(net), lists)]
        modules = {name for name, _ in self.named_modules()}
        # the modules of each stage up to the last layer's
        self.layer_names = {0: [name for name in self._below if name in modules]}
        for name, below in self._lists.items():
            for number, _ in enumerate(self.get_submodule(name).children(), 1):
                self.layer_names.setdefault(below + number, []).append(f"{name}.{number - 1}")
        self.depth = len(self.layer_names) - 1
        plain = not isinstance(net, Pooled)
        self.language = plain and is_language_model(net)
        self.asked = (
            {"use_cache": False} if plain and is_decoder(net.config) else {}
        )  # only generation needs it

    @property
    def name(self) -> str:
        """Its checkpoint, or the architecture "of random weights"."""
        return self.source or f"{self.net.config.model_type} of random weights"

    @property
    def width(self) -> int | None:
        """Units of a hidden layer, of the top one where they differ; None if the configuration has none."""
        config = self.net.config
        found = getattr(config, "hidden_size", None) or getattr(config, "hidden_sizes", None)
        return found[-1] if isinstance(found, list | tuple) else found

    def forward(self, **inputs: Tensor) -> Any:
        """`logits_of` what the network takes by name: token ids and mask, both (batch, length), or pixels."""
        return logits_of(self.net, inputs, **self.asked)

    def stage_of(self, name: str) -> int:
        """The stage to which a parameter or module name belongs."""
        for own, below in self._lists.items():
            if name.startswith(f"{own}."):
                return below + 1 + int(name[len(own) + 1 :].split(".")[0])
        return 0 if any(f"{name}.".startswith(f"{own}.") for own in self._below) else self.depth + 1

    def stage_names(self) -> list[str]:
        return ["embeddings", *(f"layer {i}" for i in range(self.depth)), "head"]

    def layers(self) -> list[nn.Module]:
        """The modules of the stages 1 to depth, or the last part of a layer that is no module of its own."""
        return [last_of(self.get_submodule(self.layer_names[s][-1])) for s in range(1, self.depth + 1)]

    def head_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What was not pretrained: everything outside the backbone, and fresh weights inside it.

        A language model's head is pretrained too, and fresh only where the checkpoint did not bring it.
        """
        for name, parameter in self.named_parameters():
            outside = not name.startswith(self._backbone) and not self.language
            if outside or name in self.fresh:
                yield name, parameter

    def head_layers(self) -> list[nn.Module]:
        """The modules that these are weights of, the lowest first."""
        names = dict.fromkeys(name.rpartition(".")[0] for name, _ in self.head_parameters())
        return [self.get_submodule(name) for name in names]

    def head_buffers(self) -> dict[str, Tensor]:
        """What these modules save beside weights, such as statistics."""
        head = {name.rpartition(".")[0] for name, _ in self.head_parameters()}
        saved = self.state_dict().keys()
        found = {name: value for name, value in self.named_buffers() if name in saved}
        return {name: value for name, value in found.items() if name.rpartition(".")[0] in head}

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def counts(self) -> tuple[int, int]:
        """Trained parameters, and all of them."""
        sizes = [(size_of(p), p.requires_grad) for p in self.parameters()]
        return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)

    def train(self, mode: bool = True) -> Model:
        """Training mode only where something trains: a stage that is frozen keeps its dropout off."""
        super().train(mode)
        trained = list(self.trained())
        alive = {self.stage_of(name) for name in trained}
        if mode and not any(name.startswith(self._backbone) for name in trained):
            backbone_of(self.net).eval()
        elif mode:
            for stage in set(range(self.depth + 1)) - alive:
                for name in self.layer_names[stage]:
                    self.get_submodule(name).eval()
        if self.statistics_fixed:
            head = {id(module) for module in self.head_layers()}
            for norm in self.batch_norms():
                norm.train(mode and id(norm) in head)
        return self

    @property
    def statistics_fixed(self) -> bool:
        """Whether batch normalisation below the head keeps a checkpoint's statistics.

        What is saved beside the checkpoint has no place for others.
        """
        return self.adapter is not None and self.source is not None

    def batch_norms(self) -> list[nn.Module]:
        """The layers that normalise by the other examples of a batch, in training mode."""
        return [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def norms(self) -> set[str]:
        """Names of the weights and biases of normalisation layers."""
        return {
            f"{name}.{own}"
            for name, module in self.named_modules()
            if "norm" in type(module).__name__.lower()
            for own, _ in module.named_parameters(recurse=False)
        }


def last_of(module: nn.Module) -> nn.Module:
    """The module itself, of a list the last one in it: nothing calls a list (Funnel's blocks are some)."""
    return last_of(module[-1]) if isinstance(module, nn.ModuleList) else module


@contextmanager
def put_back(tensors: Sequence[Tensor]) -> Iterator[None]:
    """These tensors, such as running statistics, are afterwards as they were, also where memory runs out."""
    kept = [value.clone() for value in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for value, former in zip(tensors, kept, strict=True):
                value.copy_(former)
