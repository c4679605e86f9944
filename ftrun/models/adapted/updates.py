"""Layers by peft beside or around those of a frozen network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor, nn

    from ftrun.models.model import Model

OWN = re.compile(r"\.(?:lora_|ia3_|vera_lambda_)")  # in the names of their weights


def inject(model: Model, config: PeftConfig) -> None:
    """Freeze the network, put these layers into it, and train them and the head."""
    from peft import VeraConfig, VeraModel, inject_adapter_in_model

    from ftrun.models.load import quiet

    model.requires_grad_(False)
    model.adapter = config
    with quiet():
        if isinstance(config, VeraConfig):  # what its layers share they hold themselves
            VeraModel(model.net, config, "default")
        else:
            inject_adapter_in_model(config, model.net)
    for _, parameter in model.head_parameters():
        parameter.requires_grad_(True)


def shared(net: nn.Module) -> dict[str, Tensor]:
    """The random matrices that the layers of a VeRA share, by peft's names; empty for others."""
    from peft.tuners.vera import VeraLayer

    layer = next((module for module in net.modules() if isinstance(module, VeraLayer)), None)
    if layer is None:
        return {}
    return {f"base_model.{name}": getattr(layer, name)["default"] for name in ("vera_A", "vera_B")}


def is_sum(config: PeftConfig) -> bool:
    """Whether what the layers do is a weight's sum with a product of two matrices that train."""
    from peft import LoraConfig

    return isinstance(config, LoraConfig) and not config.use_dora
