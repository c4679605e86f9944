"""The settings of a run that a command plans, before it is started."""

from __future__ import annotations

from typing import Any

STRATEGIES = "full,freeze,linear_probe,lora"  # that are compared where none are named
SEEDS = 3  # of a comparison
POWERS = (0, -1, 1)  # of the factor between the rates that a search for one begins with


def composed(words: list[str]) -> dict[str, Any]:
    """The settings that `ftrun WORDS…` would have; raises ConfigError for invalid ones."""
    from ftrun.experiments.overrides import compose, sourced, with_model_of_source
    from ftrun.settings.read import read

    spelt = [part for word in words for part in sourced(word)]
    raw = with_model_of_source(compose(spelt), spelt)
    read(raw)
    return raw
