"""What does not go with weights that are kept at fewer bits: model.load and train.frozen_dtype."""

from __future__ import annotations

from typing import Any

from ftrun.errors import ConfigError


def refuse_rounded(settings: Any) -> None:
    """ConfigError for what would train, hold or fold layers that are kept at few bits."""
    load = f"model.load={settings.model.load}"
    if not settings.strategy.on_rounded:
        raise ConfigError(
            f"{load} keeps the layers at few bits, where strategy={settings.strategy_name} cannot train them;"
            " possible: strategy=lora with variant=lora, lora_plus, rslora or dora, or model.load=full"
        )
    others = {"protect": settings.protect, "compose": settings.compose, "sequence": settings.sequence}
    if found := [name for name, value in others.items() if value is not None]:
        raise ConfigError(f"{load} goes without {found[0]}=, which needs all bits; possible: model.load=full")


def refuse_half(settings: Any) -> None:
    """ConfigError for what has no frozen weights to be kept in bf16, or needs them in fp32."""
    half, wide = f"train.frozen_dtype={settings.train.frozen_dtype}", "possible: train.frozen_dtype=fp32"
    if settings.model.init == "random":
        raise ConfigError(f"{half} rounds pretrained weights, and model.init=random has none; {wide}")
    if settings.model.rounded:
        raise ConfigError(
            f"{half} rounds frozen weights once, and model.load={settings.model.load} rounds them to fewer"
            f" bits; {wide}"
        )
    if settings.compose is not None:
        raise ConfigError(f"{half} goes without compose=, which needs all bits; {wide}")
