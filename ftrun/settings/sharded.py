"""What does not go with train.shard=true, which splits weights, gradients and moments over the processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from ftrun.settings.protocols import Task


def refuse_with_shard(task: Task, train: Any, model: Any) -> None:
    """ConfigError, with the reason and what is possible, whatever the number of processes is."""
    reasons = [
        (
            train.optimizer not in ("adamw", "sgd", "schedulefree"),
            f"train.optimizer={train.optimizer} needs each weight in one piece",
            "train.optimizer=adamw, sgd or schedulefree, or train.shard=false",
        ),
        (
            train.precision == "fp16",
            "train.precision=fp16 scales the loss by what one process alone sees of the gradients",
            "train.precision=bf16, or train.shard=false",
        ),
        (
            train.compile,
            "train.compile=true compiles layers whose weights stay in place",
            "train.compile=false, or train.shard=false",
        ),
        (
            train.keep is True,
            "train.keep=true computes each process's rows alone, and a split network computes together",
            "train.keep=auto",
        ),
        (
            model.rounded,
            f"model.load={model.load} keeps layers in blocks of bitsandbytes, which have no rows to split",
            "model.load=full with train.frozen_dtype=bf16, whose rows are split, or train.shard=false",
        ),
        (
            task.spec(None).projection is not None,
            f"task={task.name} compares the examples of all processes with each other in every step",
            "train.shard=false",
        ),
    ]
    for wrong, reason, possible in reasons:
        if wrong:
            raise ConfigError(f"train.shard=true: {reason}; possible: {possible}")
