"""Checkpoints, from which a run continues as if it had never stopped; each is written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ftrun.runs.files import umask_mode
from ftrun.runs.manifest import entries, fault

MANIFEST = "manifest.json"
Tensors = dict[str, dict[str, Tensor]]  # file stem → tensors


def save(directory: Path, tensors: Tensors, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `directory`.

    The new one is written to `.new`, its manifest of sizes and hashes last, and then renamed; the former
    one is kept as `.old` until then. At every moment at least one of the three is complete, even if the
    process is killed.
    """
    new, old = directory.with_suffix(".new"), directory.with_suffix(".old")
    if new.exists():
        if not damage(new) and not directory.exists():
            new.rename(directory)
        else:
            shutil.rmtree(new)
    new.mkdir(parents=True)
    for stem, values in tensors.items():
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in values.items()},
            new / f"{stem}.safetensors",
        )
    (new / "state.json").write_text(json.dumps(state, indent=1))
    files = sorted(new.iterdir())
    for file in files:
        umask_mode(file)
        sync(file)
    (new / MANIFEST).write_text(json.dumps(entries(files), indent=1))
    sync(new / MANIFEST)
    sync(new)
    if directory.exists():
        if old.exists():
            shutil.rmtree(old)
        directory.rename(old)
    new.rename(directory)
    sync(directory.parent)
    if old.exists():
        shutil.rmtree(old)


def newest(directory: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint among `directory`, `.new` and `.old`, and why others were skipped."""
    found: list[tuple[int, Path]] = []
    skipped = []
    for candidate in (directory, directory.with_suffix(".new"), directory.with_suffix(".old")):
        if candidate.is_dir():
            fault = damage(candidate)
            if fault:
                skipped.append(f"{candidate.name} is incomplete ({fault})")
            else:
                found.append((read_state(candidate)["step"], candidate))
    best = max(found, key=lambda pair: pair[0], default=(0, None))
    return best[1], skipped


def tidy(checkpoints: Path) -> None:
    """Leave of each checkpoint the newest complete one, under its own name; where none is, nothing.

    At every moment it is there and complete.
    """
    for directory in (checkpoints / "last", checkpoints / "best"):
        kept, _ = newest(directory)
        for other in (directory, directory.with_suffix(".new"), directory.with_suffix(".old")):
            if other != kept and other.exists():
                shutil.rmtree(other)
        if kept is not None and kept != directory:
            kept.rename(directory)


def damage(directory: Path) -> str:
    """A description of a checkpoint's damage; empty when every file agrees with the manifest."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return "it has no manifest: writing it was interrupted"
    return fault(directory, manifest)


def read_state(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "state.json").read_text())


def read_tensors(directory: Path, stem: str) -> dict[str, Tensor]:
    return load_file(directory / f"{stem}.safetensors")


def load_weights(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Copy saved tensors into the parameters and buffers of the same names, which must exist."""
    own = model.state_dict(keep_vars=True)
    for name, value in weights.items():
        own[name].data.copy_(value)


def weights_of(model: nn.Module, trained: Collection[str]) -> dict[str, Tensor]:
    """The tensors that training can change: trained parameters and persistent buffers."""
    wanted = {*trained, *(name for name, _ in model.named_buffers())}
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if name in wanted}


def moments(optimizer: Optimizer, names: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's state by parameter name, `exp_avg/net.classifier.weight`."""
    return {
        f"{key}/{name}": value
        for name, parameter in names.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def load_moments(saved: dict[str, Tensor], optimizer: Optimizer, names: dict[str, nn.Parameter]) -> None:
    for full, value in saved.items():
        key, name = full.split("/", 1)
        place = value if key == "step" else value.to(names[name].device)
        optimizer.state[names[name]][key] = place


def sync(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
