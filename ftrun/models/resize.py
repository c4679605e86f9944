"""Another depth, width or number of heads for a network that begins with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from ftrun.settings.schema import ModelSettings

NAMES = {"layers": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads"}
INNER = ("intermediate_size", "n_inner", "hidden_dim")  # of the feed-forward blocks, by family
STEP = 8  # inner widths are multiples of it, which matrix units like


def resize(config: PretrainedConfig, settings: ModelSettings) -> None:
    """Give the configuration the settings' layers, width and heads; the feed-forward keeps its ratio.

    Key-value heads keep their share of the heads, at least one. Raises ConfigError for a network that has no
    such number, and for a width that its heads do not divide.
    """
    wanted = {NAMES[name]: value for name in NAMES if (value := getattr(settings, name)) is not None}
    if not wanted:
        return
    for name, own in NAMES.items():
        if own in wanted and not isinstance(getattr(config, own, None), int):
            raise ConfigError(f"model.{name}: {settings.name}, a {config.model_type}, has no such setting")
    before = {own: getattr(config, own) for own in NAMES.values()}
    now = before | wanted
    if now["hidden_size"] % now["num_attention_heads"]:
        raise ConfigError(
            f"model.width={now['hidden_size']} is not divisible by"
            f" model.heads={now['num_attention_heads']}; set both"
        )
    for own, value in (wanted | derived(config, before, now)).items():
        setattr(config, own, value)


def derived(config: PretrainedConfig, before: dict[str, int], now: dict[str, int]) -> dict[str, Any]:
    """What follows from layers, width and heads in the configurations that say it apart."""
    found: dict[str, Any] = {}
    width, heads = now["hidden_size"], now["num_attention_heads"]
    for name in INNER:
        inner = getattr(config, name, None)
        if isinstance(inner, int) and width != before["hidden_size"]:
            found[name] = max(STEP, round(inner * width / before["hidden_size"] / STEP) * STEP)
    groups = getattr(config, "num_key_value_heads", None)
    if isinstance(groups, int) and heads != before["num_attention_heads"]:
        shared = max(1, before["num_attention_heads"] // groups)
        found["num_key_value_heads"] = next(
            n for n in range(max(1, heads // shared), 0, -1) if heads % n == 0
        )
    if getattr(config, "head_dim", None) is not None:
        found["head_dim"] = width // heads
    kinds = getattr(config, "layer_types", None)
    if kinds:
        found["layer_types"] = [kinds[i % len(kinds)] for i in range(now["num_hidden_layers"])]
    return found
