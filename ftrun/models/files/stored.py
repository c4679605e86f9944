"""The tensors in a checkpoint's files: their names and shapes, read from the headers of safetensors."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from ftrun.errors import ConfigError, told
from ftrun.models.files.locate import WHOLE, Checkpoint
from ftrun.models.files.reading import AGAIN
from ftrun.models.files.reading import stored as read

Shapes = dict[str, tuple[int, ...]]


def shapes(checkpoint: Checkpoint) -> Shapes | None:
    """The shape of every tensor by its name, of which no value is read; None where the files are not here.

    They are of the files that transformers reads: one, or the shards of an index. Raises ConfigError for a
    damaged one.
    """
    found = headers(checkpoint)
    return None if found is None else {name: shape for name, (shape, _) in found.items()}


def halves(checkpoint: Checkpoint) -> set[str]:
    """The names of the tensors that are stored in bf16; ConfigError as by `shapes`."""
    return {name for name, (_, kind) in (headers(checkpoint) or {}).items() if kind == "BF16"}


def narrow(checkpoint: Checkpoint) -> bool:
    """Whether a tensor is stored in fewer bits than fp32, so that in fp32 it is no copy of the file."""
    return any(kind in ("BF16", "F16") for _, kind in (headers(checkpoint) or {}).values())


def headers(checkpoint: Checkpoint) -> dict[str, tuple[tuple[int, ...], str]] | None:
    """Shape and type of every tensor by its name, as by `shapes`."""
    whole, index = (checkpoint.cached(name) for name in WHOLE)
    files = [whole] if whole is not None else shards(checkpoint, index) if index is not None else []
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in files:
        if path is None or not path.is_file():
            return None  # the Hub has it, or loading says that it is missing
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    part = file.get_slice(name)
                    found[name] = tuple(part.get_shape()), part.get_dtype()
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path} is damaged: {told(error)}; {AGAIN}") from None
    return found or None


def shards(checkpoint: Checkpoint, index: Path) -> list[Path | None]:
    """The files that an index names."""
    try:
        names = sorted(set(read(index)["weight_map"].values()))
        files = [checkpoint.cached(name) for name in names]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{index} is damaged: it is no index of tensors ({error}); {AGAIN}") from None
    if Path(checkpoint.name).is_dir() and None in files:
        raise ConfigError(f"{index} names {names[files.index(None)]}, which is not there; {AGAIN}")
    return files
