"""A saved network opened by plain transformers and peft, as the lines in its card say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import Tensor, nn

from ftrun.models.architecture import headless
from ftrun.models.files.reading import stored
from ftrun.models.load import quiet
from ftrun.models.saved.below import lies
from ftrun.models.saved.usage import OWN, shares
from ftrun.models.sentences import DENSE, POOLING, WAYS, WEIGHTS
from ftrun.models.small import register
from ftrun.runs.artifacts import BASE, LORA, PROJECTION

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Sentences(nn.Module):
    """What sentence-transformers makes of a directory: the network, 1_Pooling and 2_Dense to logits."""

    def __init__(self, net: nn.Module, directory: Path) -> None:
        super().__init__()
        self.net, self.config = net, net.config
        said = stored(directory / POOLING / "config.json")
        self.way = next(way for way, name in WAYS.items() if said.get(name))
        head = load_file(directory / DENSE / WEIGHTS)
        self.weight, self.bias = head["linear.weight"], head["linear.bias"]

    def forward(self, attention_mask: Tensor, **inputs: Tensor) -> Any:
        """As Pooling(mode cls or mean) and Dense(identity) of sentence-transformers."""
        from transformers.modeling_outputs import SequenceClassifierOutput

        hidden = self.net(attention_mask=attention_mask, **inputs).last_hidden_state
        if self.way == "cls":
            pooled = hidden[:, 0]
        else:
            seen = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * seen).sum(1) / seen.sum(1).clamp(min=1e-9)
        return SequenceClassifierOutput(logits=nn.functional.linear(pooled, self.weight, self.bias))


class Features(nn.Module):
    """The first outputs of a contrastive network, its features; what is behind them is ftrun's own."""

    def __init__(self, module: nn.Module, width: int) -> None:
        super().__init__()
        self.module, self.width = module, width

    def forward(self, **inputs: Tensor) -> Tensor:
        found: Tensor = self.module(**inputs)
        return found[:, : self.width]


def plainly(directory: Path, config: PretrainedConfig, auto_class: str, **trust: bool) -> nn.Module:
    """The network of a directory without ftrun's own readers, in evaluation mode.

    Only for what plain libraries read: neither what adapter.json tells of nor a base at few bits.
    """
    import peft
    import transformers

    pooled = hasattr(config, "ftrun_pooling")
    kind = getattr(transformers, headless(config) if pooled else auto_class)
    if config.model_type.startswith(OWN):
        register()
    with quiet():
        if (directory / LORA).is_file() and (pooled or shares(directory) or not (directory / BASE).is_dir()):
            base = lies(directory, str(stored(directory / LORA)["base_model_name_or_path"]))
            own = transformers.AutoConfig.from_pretrained(directory, **trust)
            net = kind.from_pretrained(base, config=own, **trust)
            if shares(directory):
                peft.PeftModel.from_pretrained(net, str(directory))
            else:
                net.load_adapter(str(directory))
        else:
            net = kind.from_pretrained(directory, **trust)
    if (directory / PROJECTION).is_file():
        net.classifier = nn.Flatten()
    return (Sentences(net, directory) if pooled else net).eval()
