"""What does not go with an optimizer that takes the place of a schedule."""

from __future__ import annotations

from typing import Any

from ftrun.errors import ConfigError


def refuse_with_schedule_free(settings: Any) -> None:
    """ConfigError for another schedule, another average, and what moves weights after a step."""
    free, train = "train.optimizer=schedulefree", settings.train
    schedule = settings.raw["schedule"]["name"]
    if schedule != "constant":
        raise ConfigError(
            f"{free} averages weights where others let the rate fall, and schedule={schedule} does that as"
            " well; possible: schedule=constant"
        )
    if train.average != "none":
        raise ConfigError(
            f"{free} scores and saves an average of its own, beside train.average={train.average}; possible:"
            " train.average=none"
        )
    if settings.guard.pulls():
        raise ConfigError(
            f"{free} keeps two sequences of weights, and a pull after each step would move one; possible:"
            " apply=loss, or train.optimizer=adamw"
        )
