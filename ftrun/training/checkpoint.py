"""What a run needs to go on as if it had never stopped: complete on disk, or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

MANIFEST = "manifest.json"
Tensors = dict[str, dict[str, Tensor]]  # file stem → tensors


def save(directory: Path, tensors: Tensors, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `directory`.

    It is written beside as `.new`, with a manifest of sizes and hashes last, and takes its place by
    renaming; the former one stands as `.old` until then. A kill at any moment leaves at least one of
    the three complete.
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
        sync(file)
    manifest = {file.name: {"size": file.stat().st_size, "sha256": digest(file)} for file in files}
    (new / MANIFEST).write_text(json.dumps(manifest, indent=1))
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
    """The newest complete one of `directory`, its `.new` and its `.old`, and why others were skipped."""
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


def damage(directory: Path) -> str:
    """What is wrong with a checkpoint on disk, in words; empty when every file is as its manifest says."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return "no manifest: it was cut off while being written"
    for name, expected in manifest.items():
        file = directory / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["size"]:
            return f"{name} has {file.stat().st_size} bytes instead of {expected['size']}"
        if digest(file) != expected["sha256"]:
            return f"the content of {name} has changed"
    return ""


def read_state(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "state.json").read_text())


def read_tensors(directory: Path, stem: str) -> dict[str, Tensor]:
    return load_file(directory / f"{stem}.safetensors")


def load_weights(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Put saved tensors into their parameters and buffers, by name; a name that is not there is a bug."""
    own = model.state_dict(keep_vars=True)
    for name, value in weights.items():
        own[name].data.copy_(value)


def weights_of(model: nn.Module, trained: Collection[str]) -> dict[str, Tensor]:
    """What training can change: trained parameters, and the buffers that a checkpoint keeps."""
    own = model.state_dict(keep_vars=True)
    return {
        name: value for name, value in own.items() if name in trained or not isinstance(value, nn.Parameter)
    }


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


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
