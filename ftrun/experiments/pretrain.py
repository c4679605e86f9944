"""Pre-training before fine-tuning: `pretrain=` trains random weights first, once for all runs of a sweep."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ftrun.errors import ConfigError, InUse
from ftrun.experiments import single
from ftrun.experiments.pooling import with_pooling
from ftrun.runs.leases.lease import Lease
from ftrun.runs.run import Run, is_run
from ftrun.runs.terminal import say
from ftrun.settings.read import pretraining_of, read
from ftrun.settings.resolve import load_class
from ftrun.settings.schema import Settings
from ftrun.settings.settled import agree

WAIT = 1.0  # seconds between two looks at a pre-training that another run of the sweep is doing


def pretrained(raw: dict[str, Any], beside: Path) -> dict[str, Any]:
    """The settings of the fine-tuning, its model being what `pretrain` made of random weights.

    The run of the pre-training is `pretrain.directory`, or `pretraining` in the directory `beside`; what is
    there already is continued or taken as it is. ConfigError where something else is there.
    """
    node = raw["pretrain"]
    place = Path(node["directory"] or beside / "pretraining").absolute()
    second = raw | {"model": raw["model"] | start(raw["strategy"], place)}
    first = read(pretraining_of(raw))
    read(second)
    lease = held(place)
    try:
        finished(first, place)
    finally:
        lease.release(gone=True)
    return pooled_alike(second)


def pooled_alike(raw: dict[str, Any]) -> dict[str, Any]:
    """The pooling that the pre-trained network has, also for the control with its random weights."""
    own = raw | {"model": raw["model"] | {"init": "pretrained"}}
    pooling = with_pooling(read(own)).model.pooling
    return raw | {"model": raw["model"] | {"pooling": pooling}}


def start(strategy: str, place: Path) -> dict[str, Any]:
    """Which network the fine-tuning has; its control the same one, and the same tokens, at random weights."""
    init = "random" if load_class("strategies", strategy).starts_random else "pretrained"
    return {"name": str(place), "init": init, "layers": None, "width": None, "heads": None}


def finished(settings: Settings, place: Path) -> None:
    """The finished pre-training at `place`: made, continued, or there already."""
    if is_run(place):
        there = Run.open(place)
        if not agree(settings.raw, there.settings):
            raise ConfigError(
                f"pretrain.directory={place} contains a run with other settings; set another directory"
            )
        if there.finished:
            say(f"already pre-trained: {place}")
    single.made(settings.raw, place, f"pre-training first: {settings.task.name}, {place}")


def held(place: Path) -> Lease:
    """The right to make what is at `place`, waited for while another run of the sweep has it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    waiting = False
    while True:
        try:
            return Lease(place.parent, str(place), f"{place.name}.")
        except InUse as error:
            if not waiting:
                say(f"waiting for another run's pre-training: {error}")
            waiting = True
            time.sleep(WAIT)
