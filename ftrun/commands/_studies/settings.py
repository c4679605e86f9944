"""The settings of a run that a command plans, before it is started."""

from __future__ import annotations

from typing import Any

from ftrun.errors import ConfigError

STRATEGIES = "full,freeze,linear_probe,lora"  # that are compared where none are named
SEEDS = 3  # of a comparison
POWERS = (0, -1, 1)  # of the factor between the rates that a search for one begins with


def composed(words: list[str]) -> dict[str, Any]:
    """The settings that `ftrun WORDS…` would have; raises ConfigError for invalid ones."""
    from ftrun.experiments.overrides import settings_of
    from ftrun.settings.read import checked

    raw = settings_of(words)
    checked(raw)
    return raw


def keys_of(command: str, words: list[str]) -> list[str]:
    """The names of the settings that are given; ConfigError for a word that is none."""
    for word in words:
        if "=" not in word:
            raise ConfigError(f"{command}: '{word}' is not key=value")
    return [word.partition("=")[0] for word in words]


def refuse_no_seeds(command: str, seeds: int) -> None:
    """ConfigError for less than one run of each way."""
    if seeds < 1:
        raise ConfigError(f"{command}: --seeds must be at least 1, not {seeds}")
