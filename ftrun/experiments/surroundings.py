"""Where a run runs: kept when it begins, compared when it goes on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ftrun.errors import ConfigError, DataError
from ftrun.models.load import attention_of
from ftrun.runs.environment import describe as describe_environment
from ftrun.runs.environment import resumed
from ftrun.runs.manifest import digest
from ftrun.runs.run import ENVIRONMENT, Run
from ftrun.runs.terminal import say
from ftrun.training.devices import describe

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.tasks.data import TaskData

READ = ("*.safetensors", "tokenizer*", "vocab*")  # of a directory: what decides numbers, and stays as it is


def surroundings(path: Path, device: str) -> dict[str, Any]:
    """What environment.json of a run holds, from this process."""
    own = {"cpu": torch.backends.cpu.get_cpu_capability(), "run": os.path.abspath(path)}
    return describe_environment(device) | own


def keep_network(directory: Run, model: Model) -> None:
    """Add which weights a run begins with, and which attention kernels compute with them."""
    own = {"attention": attention_of(model.net), "network": fingerprint(model)}
    directory.write_json(ENVIRONMENT, own | directory.environment)


def refuse_other_weights(directory: Run, model: Model) -> None:
    """ConfigError where a run would go on from other weights than it began with."""
    before, now = directory.environment.get("network"), fingerprint(model)
    if before is None:
        keep_network(directory, model)  # it was killed before it had begun, or is of an earlier version
    elif now is not None and before != now:
        raise ConfigError(
            f"{directory.path}: the weights in {model.source} have changed since this run started; put them"
            " back, or start a new run"
        )


def fingerprint(model: Model) -> str | None:
    """What tells the weights and the vocabulary that a network was read from, without reading all of them.

    Of a directory a hash of the files' sizes and of samples of their content; of the Hub its commit. None
    where it began with random weights.
    """
    if model.source is None:
        return None
    place = Path(model.source)
    if not place.is_dir():
        commit: str | None = getattr(model.net.config, "_commit_hash", None)
        return commit
    found = hashlib.sha256()
    for file in sorted(file for pattern in READ for file in place.glob(pattern)):
        found.update(f"{file.name} {file.stat().st_size} {digest(file, sampled=True)} ".encode())
    return found.hexdigest()[:16]


def compare(directory: Run, accelerator: Accelerator, model: Model, step: int) -> None:
    """Say and keep what has changed since the run began or last went on."""
    now = surroundings(directory.path, describe(accelerator)) | {"attention": attention_of(model.net)}
    kept, found = resumed(directory.environment, now, step)
    if found:
        directory.write_json(ENVIRONMENT, kept)
        say(
            f"warning: from step {step} on in another environment, so the numbers may differ from those of"
            f" a run without a break: {', '.join(found)}"
        )


def refuse_other_data(directory: Run, data: TaskData, accelerator: Accelerator) -> None:
    """DataError where the rows are not those that the run began with, unless it has not used them yet.

    So it is where a file was found to be damaged when the rows became tokens, and was mended since.
    """
    kept = directory.read_json("data.json") or {}
    if kept.get("fingerprint", data.rows.fingerprint) == data.rows.fingerprint:
        return
    if kept.keys() != {"fingerprint"} or directory.metrics_size():  # the data card is made of all rows
        raise DataError(f"{directory.path}: the data has changed since this run started; start a new run")
    say("the data has changed since this run started, which had not used it yet")
    if accelerator.is_main_process:
        directory.write_json("data.json", {"fingerprint": data.rows.fingerprint})
