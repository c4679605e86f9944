"""A network saved in two shards, whose frozen one is a file that the runs of a study share by hard link.

Every run that freezes the same weights of the same checkpoint would write them again. transformers reads the
shards by their index, with or without the other runs: deleting one of them leaves the file to the rest.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ftrun.models.few_bits.half import kept
from ftrun.runs.ledger import study_of

FROZEN, TRAINED = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
LEAST_BYTES = 8 * 1024**2  # of frozen weights, below which a shard of their own is not worth its file
LEAST_SHARE = 0.25  # of all weights


def save_weights(net: Any, directory: Path, names: list[str], brought: set[str]) -> None:
    """The tensors of these names in the format of transformers, the frozen ones apart where they are many.

    What is in the directory is replaced, never written into: it may be another run's too. Only what the
    checkpoint `brought` is shared, as every run makes the rest for itself. Where that is all there is, as
    below a head that is saved elsewhere, it is one file.
    """
    state = net.state_dict(keep_vars=True)
    own = {name: state[name] for name in names}
    frozen = {
        name: value
        for name, value in own.items()
        if isinstance(value, nn.Parameter) and not value.requires_grad and name in brought
    }
    for name in (FROZEN, TRAINED, INDEX, WHOLE):
        (directory / name).unlink(missing_ok=True)
    size = nbytes(frozen)
    if size < max(LEAST_BYTES, LEAST_SHARE * nbytes(own)):
        net.save_pretrained(directory, state_dict=detached(own))
        return
    rest = {name: value for name, value in own.items() if name not in frozen}
    file = FROZEN if rest else WHOLE
    if not any(linked(place, directory / file) for place in alike(directory, file, detached(frozen))):
        save_part(net, directory, frozen, file)
    if rest:
        save_part(net, directory, rest, TRAINED)
        write_index(directory, [FROZEN, TRAINED])


def nbytes(tensors: dict[str, Tensor]) -> int:
    """Their bytes, of tied ones once."""
    return sum(kept(value).nbytes for value in {id(value): value for value in tensors.values()}.values())


def detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: kept(value).detach() for name, value in tensors.items()}


def save_part(net: Any, directory: Path, tensors: dict[str, Tensor], file: str) -> None:
    """One shard, and beside it all that transformers writes with weights."""
    beside = directory / f".{file}"
    shutil.rmtree(beside, ignore_errors=True)
    net.save_pretrained(beside, state_dict=detached(tensors))
    os.replace(beside / WHOLE, directory / file)
    for other in beside.iterdir():
        os.replace(other, directory / other.name)
    beside.rmdir()


def alike(directory: Path, name: str, tensors: dict[str, Tensor]) -> Iterator[Path]:
    """Files of this name in the study with the same tensors, bit for bit, the one written last first."""
    study = study_of(directory)
    if study is None:
        return
    places = [*study.glob(f"*/model/{name}"), *study.glob(f"*/*/model/{name}")]
    found = {(file := place.stat()).st_ino: (file.st_mtime_ns, place) for place in places}
    for _, place in sorted(found.values(), reverse=True):
        if holds(place, tensors):
            yield place


def holds(place: Path, tensors: dict[str, Tensor]) -> bool:
    """Whether a file of safetensors has these tensors and no others; tied ones may have a single name."""
    try:
        with safe_open(place, "pt") as file:
            names = set(file.keys())
            if not names <= tensors.keys():
                return False
            every = {pointer(tensors[name]) for name in names} == set(map(pointer, tensors.values()))
            return every and all(same(file.get_tensor(name), tensors[name]) for name in names)
    except (OSError, SafetensorError):
        return False


def pointer(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other.cpu())


def linked(place: Path, file: Path) -> bool:
    """Make the file another name of the one at `place`; False where the file system cannot."""
    try:
        os.link(place, file)
    except OSError:  # another disk, one without hard links, or as many as it allows
        return False
    return True


def write_index(directory: Path, files: list[str]) -> None:
    """Which of a directory's files has which tensor, as transformers reads it."""
    weight_map: dict[str, str] = {}
    size = 0
    for name in files:
        with safe_open(directory / name, "pt") as file:
            weight_map |= dict.fromkeys(file.keys(), name)
        size += (directory / name).stat().st_size
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
