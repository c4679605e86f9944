"""train.rates: peak learning rates of the weights whose names match a pattern."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError
from ftrun.settings.patterns import matching, plain

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.settings.schema import Train


def rates_of(model: Model, train: Train, factor: Callable[[str], float]) -> dict[str, float]:
    """The rate of each trained weight that has one of its own, by name.

    ConfigError for a pattern that is found in no name, or in those of frozen weights alone; for a weight with
    two rates; and for one whose rate the strategy makes a multiple of others', by a `factor` of its name.
    """
    trained, found = model.trained(), dict[str, tuple[float, str]]()
    every = [name for name, _ in model.named_parameters()]
    for pattern, rate in (train.rates or {}).items():
        names = matching("train.rates", pattern, every) & trained.keys()
        if not names:
            raise ConfigError(
                f"train.rates: {pattern} is found in names of frozen weights alone, which have no rate;"
                " possible: a pattern of weights that train"
            )
        for name in sorted(names):
            known, other = found.setdefault(name, (rate, pattern))
            told = f"train.rates: {plain(name)} has"
            if known != rate:
                raise ConfigError(
                    f"{told} two rates, {known:g} by {other} and {rate:g} by {pattern}; give one"
                )
            if factor(name) != 1:
                raise ConfigError(
                    f"{told} {factor(name):g} times the rate of others by the strategy, and {rate:g} by"
                    f" {pattern}; possible: a pattern without it"
                )
    return {name: rate for name, (rate, _) in found.items()}
