"""A run that starts from another one's LoRA starts from the network that this makes with its base."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError
from ftrun.experiments.lora.merge import merge, of_run
from ftrun.models.files.locate import unmerged
from ftrun.runs.artifacts import MERGED, TOLERANCE, update_in
from ftrun.runs.run import Run
from ftrun.runs.terminal import say
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from ftrun.settings.schema import ModelSettings


def merge_first(model: ModelSettings, device: str) -> None:
    """Where model.name means a run that holds a LoRA, make a network of it, as `ftrun merge` does.

    Nothing is done where that is there already. Raises ConfigError where the run cannot be written to.
    """
    run = unmerged(model.name) if model.init == "pretrained" else None
    if run is None:
        return
    what = update_in(run / "model")
    if not os.access(run, os.W_OK):
        raise ConfigError(
            f"model.name={model.name} holds {what}, and {run} cannot be written to; possible:"
            f" {command('merge', run, '--output', 'DIR')}, and model.name=DIR"
        )
    say(f"model.name={model.name} holds {what}: merging it into {run / MERGED}, as ftrun merge does")
    source = of_run(Run.open(run))
    source.settings = replace(source.settings, device=device)
    try:
        merge(source, run / MERGED, "fp32", TOLERANCE)
    except OSError:
        if not (run / MERGED).is_dir():  # another process was first
            raise
