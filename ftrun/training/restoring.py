"""A run goes on from its newest complete checkpoint, which must be its own and whole."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ftrun.errors import UserError
from ftrun.runs.terminal import say
from ftrun.training import checkpoint, tensor_files
from ftrun.training.state import State
from ftrun.training.updates.moments import read_moments

if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.training.loop import Loop

BESIDE = {"run", "settings"}  # in the file of the state: whose it is, and the settings of then


def restore(loop: Loop) -> None:
    """Continue from the newest complete checkpoint, or from the start when there is none.

    UserError for one of another run or network, and where the best weights so far are gone.
    """
    directory = loop.run_directory
    place, skipped = checkpoint.newest(directory.checkpoints / "last", directory.key)
    for reason in skipped:
        say(f"skipped: {reason}")
    if place is not None:
        load(loop, place)
        if loop.state.best:
            best, now = int(loop.state.best["step"]), loop.state.step
            checkpoint.refuse_lost_best(directory.checkpoints / "best", directory.key, best, now)
    loop.accelerator.wait_for_everyone()  # all have read it
    if loop.accelerator.is_main_process:
        directory.truncate_metrics(loop.state.metrics_size)
        checkpoint.tidy(directory.checkpoints)
    say(f"resuming at step {loop.state.step} of {loop.length.total}")


def load(loop: Loop, place: Path) -> None:
    """Put the network, the optimizer, the objective and the progress of a checkpoint in their places."""
    step, state = loop.step, checkpoint.read_state(place)
    scaler = state.pop("scaler", None)
    if scaler and loop.accelerator.scaler is not None:
        loop.accelerator.scaler.load_state_dict(scaler)
    step.state = state_of(place, {name: value for name, value in state.items() if name not in BESIDE})
    checkpoint.read_weights(place, step.model, step.parameters)
    read_moments(place, step.plain_optimizer(), step.parameters)
    step.average.restore(place)
    if own := dict(step.objective.named_buffers()):
        saved = tensor_files.read_tensors(place, "task")
        saved = {name.replace("/", "."): value for name, value in saved.items()}  # formerly a/b
        for name, value in own.items():
            value.copy_(saved[name])


def state_of(place: Path, values: dict[str, Any]) -> State:
    """The progress of a run; UserError where another version of ftrun kept something else."""
    if unknown := sorted({*values} - {field.name for field in fields(State)}):
        raise UserError(
            f"{place} was written by another version of ftrun, which keeps {unknown[0]};"
            f" {checkpoint.anew(place)}"
        )
    return State(**values)
