"""The tensors of a checkpoint in files of safetensors: one file, or several of a set that is large.

What is split over processes is gathered tensor by tensor by the first one, which holds one file's at a time,
and each process reads its own rows again. So the files do not tell how many processes there were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ftrun.models.split import is_split, rows_of, whole

MOST = 4 * 1024**3  # bytes of a file, above which a set is several


def write(directory: Path, stem: str, tensors: Mapping[str, Tensor]) -> None:
    """Write STEM.safetensors, or STEM-00001-of-00003.safetensors and so on."""
    parts = cut(tensors)
    for number, names in enumerate(parts, 1):
        name = stem if len(parts) == 1 else f"{stem}-{number:05d}-of-{len(parts):05d}"
        values = {name: on_cpu(tensors[name]) for name in names}
        save_file(values, directory / f"{name}.safetensors")


def hand_over(tensors: Mapping[str, Tensor]) -> None:
    """The part in `write` of a process that does not write: its rows go to the one that does."""
    for names in cut(tensors):
        for name in names:
            whole(tensors[name])


def cut(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of each file, in their order; a tensor larger than MOST is one by itself."""
    parts: list[list[str]] = [[]]
    size = 0
    for name, value in tensors.items():
        needed = value.numel() * value.element_size()
        if parts[-1] and size + needed > MOST:
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += needed
    return parts


def on_cpu(value: Tensor) -> Tensor:
    return whole(value).detach().cpu().contiguous()


def read_tensors(directory: Path, stem: str, like: Callable[[str], Any] | None = None) -> dict[str, Tensor]:
    """Every tensor of a set by its name; of one that is `like` a split one, this process's rows alone.

    `like` returns the tensor in whose place one of this name is put, or None.
    """
    found = {}
    for name, file in opened(directory, stem):
        place = None if like is None else like(name)
        if is_split(place) and file.get_slice(name).get_shape():
            found[name] = file.get_slice(name)[rows_of(place)]
        else:
            found[name] = file.get_tensor(name)
    return found


def shapes_of(directory: Path, stem: str) -> dict[str, list[int]]:
    """The shape of every tensor of a set, by its name."""
    return {name: list(file.get_slice(name).get_shape()) for name, file in opened(directory, stem)}


def opened(directory: Path, stem: str) -> Iterator[tuple[str, Any]]:
    """Every name, with the open file that has it."""
    single = directory / f"{stem}.safetensors"
    for place in [single] if single.exists() else sorted(directory.glob(f"{stem}-*-of-*.safetensors")):
        with safe_open(place, "pt") as file:
            for name in file.keys():  # noqa: SIM118  it is no dict
                yield name, file
