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
    whole, index = (checkpoint.cached(name) for name in WHOLE)
    files = [whole] if whole is not None else shards(checkpoint, index) if index is not None else []
    found: Shapes = {}
    for path in files:
        if path is None or not path.is_file():
            return None  # the Hub has it, or loading says that it is missing
        try:
            with safe_open(path, "pt") as file:
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
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
