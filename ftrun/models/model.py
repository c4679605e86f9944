"""Pretrained networks behind one face, a backbone in stages and a head; architectures are known only here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ftrun.errors import ConfigError, near
from ftrun.models.architecture import is_decoder, is_language_model
from ftrun.models.logits import logits_of

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerBase

    from ftrun.models.adapters import Adapters
    from ftrun.models.image_processor import Reader

# The last linear layer of a layer's attention and of its feed-forward block, by its name within the layer.
ATTENTION_OUTPUTS = {
    "attention.output.dense",  # BERT, RoBERTa, ELECTRA, DeBERTa and relatives
    "attention.out_lin",  # DistilBERT
    "attn.Wo",  # ModernBERT
    "attention.o_proj",  # ViT
    "attn.c_proj",  # GPT-2
    "self_attn.o_proj",  # Llama, Qwen, SmolLM, Mistral and relatives
}
FEED_FORWARD_OUTPUTS = {"output.dense", "ffn.lin2", "mlp.Wo", "mlp.fc2", "mlp.c_proj", "mlp.down_proj"}


class Model(nn.Module):
    """A network with its head, and its tokenizer or image reader; token ids or pixels in, logits out.

    Stage 0 is the embeddings, stage i the layer i-1, stage depth+1 everything above the layers: final norm,
    pooler and head. A network that begins with a layer has nothing in stage 0.
    """

    def __init__(
        self,
        net: nn.Module,
        tokenizer: PreTrainedTokenizerBase | Reader | None,
        source: str | None,
        fresh: set[str],
    ):
        super().__init__()
        self.net = net
        self.tokenizer = tokenizer
        self.source = source  # directory or Hub name of the checkpoint, None of random weights
        self.fresh = frozenset(f"net.{name}" for name in fresh)  # weights the checkpoint did not bring
        self.adapter: LoraConfig | Adapters | None = None
        self._backbone = f"net.{name_of(net, backbone_of(net))}."
        self._layers = self._backbone + longest_list(backbone_of(net))
        self.depth = len(self.get_submodule(self._layers))
        plain = not isinstance(net, Pooled)
        self.language = plain and is_language_model(net)
        self.asked = {"use_cache": False} if plain and is_decoder(net.config) else {}  # it is for writing
        container = self._layers.removeprefix(self._backbone).split(".")[0]
        children = [name for name, _ in backbone_of(net).named_children()]
        self._below = tuple(f"{self._backbone}{name}." for name in children[: children.index(container)])

    def forward(self, **inputs: Tensor) -> Any:
        """`logits_of` what the network takes by name: token ids and mask, both (batch, length), or pixels."""
        return logits_of(self.net, inputs, **self.asked)

    def stage_of(self, name: str) -> int:
        """The stage to which a parameter or module name belongs."""
        if name.startswith(self._layers + "."):
            return 1 + int(name[len(self._layers) + 1 :].split(".")[0])
        return 0 if name.startswith(self._below) else self.depth + 1

    def stage_names(self) -> list[str]:
        return ["embeddings", *(f"layer {i}" for i in range(self.depth)), "head"]

    def layers(self) -> list[nn.Module]:
        """The modules of the stages 1 to depth."""
        return [self.get_submodule(f"{self._layers}.{i}") for i in range(self.depth)]

    def head_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What was not pretrained: everything outside the backbone, and fresh weights inside it.

        A language model's head is pretrained too, and fresh only where the checkpoint did not bring it.
        """
        for name, parameter in self.named_parameters():
            outside = not name.startswith(self._backbone) and not self.language
            if outside or name in self.fresh:
                yield name, parameter

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def counts(self) -> tuple[int, int]:
        """Trained parameters, and all of them."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
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
                for name in self._below if stage == 0 else [f"{self._layers}.{stage - 1}."]:
                    self.get_submodule(name[:-1]).eval()
        return self

    def linear_layers(self, targets: list[str] | str) -> list[str]:
        """Full names within `net` of the linear layers meant by attention, all or a list of endings."""
        from transformers.pytorch_utils import Conv1D

        inside = {
            name.removeprefix("net."): self.stage_of(name)
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and 0 < self.stage_of(name) <= self.depth
        }
        where = self.source or f"{self.net.config.model_type} of random weights"
        if not inside:
            raise ConfigError(
                f"strategy=lora adapts linear layers, and below its head {where} has none;"
                " possible: strategy=full, freeze, norms or linear_probe"
            )
        if targets == "all":
            return list(inside)
        if targets == "attention":
            found = [name for name in inside if re.search(r"\.(\w*attention|\w*attn)\.", name)]
            if not found:
                raise ConfigError(
                    f"targets=attention finds no attention projection in {where};"
                    " targets=all takes every linear layer"
                )
            return found
        return [name for target in targets for name in matching(target, list(inside))]

    def transposed(self) -> bool:
        """Whether the layers are GPT-2's Conv1D, whose weight is (in, out)."""
        from transformers.pytorch_utils import Conv1D

        return any(isinstance(module, Conv1D) for layer in self.layers() for module in layer.modules())

    def output_layers(self) -> tuple[list[str], list[str]]:
        """Full names within `net` of the linear layers that end each attention and each feed-forward block.

        One of each per layer, from the bottom up; ConfigError for an architecture where they are not known.
        """
        from transformers.pytorch_utils import Conv1D

        layers = self.get_submodule(self._layers)
        found = []
        for known in (ATTENTION_OUTPUTS, FEED_FORWARD_OUTPUTS):
            names = [
                f"{self._layers.removeprefix('net.')}.{number}.{name}"
                for number, layer in enumerate(layers)
                for name, module in layer.named_modules()
                if name in known and isinstance(module, nn.Linear | Conv1D)
            ]
            if len(names) != self.depth:
                raise ConfigError(
                    f"strategy=adapter knows no place for adapters in {self.source}, a "
                    f"{type(self.net).__name__}; it does in networks built as BERT, RoBERTa, DistilBERT, "
                    "ModernBERT, ViT, GPT-2 or Llama"
                )
            found.append(names)
        return found[0], found[1]

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


class Pooled(nn.Module):
    """A backbone whose output is pooled at the first token or over all tokens, and one linear layer."""

    def __init__(self, backbone: nn.Module, pooling: str, classes: int):
        super().__init__()
        self.config = backbone.config
        self.pooling = pooling
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


def matching(target: str, names: list[str]) -> list[str]:
    found = [name for name in names if name == target or name.endswith("." + target)]
    if not found:
        endings = sorted({name.split(".")[-1] for name in names})
        raise ConfigError(
            f"targets: no linear layer is named {target}; "
            f"there are {', '.join(endings)}{near(target, endings)}"
        )
    return found


def backbone_of(net: nn.Module) -> nn.Module:
    return net.backbone if isinstance(net, Pooled) else net.base_model


def name_of(net: nn.Module, part: nn.Module) -> str:
    return next(name for name, module in net.named_modules() if module is part)


def longest_list(backbone: nn.Module) -> str:
    """The path of the list of layers: the longest ModuleList of the backbone."""
    lists = {n: len(m) for n, m in backbone.named_modules() if isinstance(m, nn.ModuleList)}
    if not lists:
        raise ConfigError(f"{type(backbone).__name__} has no list of layers; ftrun cannot cut it into stages")
    return max(lists, key=lambda name: lists[name])
