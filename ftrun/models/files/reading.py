"""The files of a model as the libraries read them, whose many errors about damaged ones become one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, OutOfMemory, UserError, disk_full, near, out_of_memory, told
from ftrun.runs.files import size_in_words

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

CONFIG = "config.json"
OURS = {  # what a run notes in config.json
    "ftrun_pooling": ("cls", "mean"),
    "ftrun_load": ("4bit", "8bit"),
    "ftrun_frozen": ("bf16",),
}
SIZES = (  # of a network, by the names that every configuration of transformers understands
    "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size", "image_size", "patch_size",
    "num_channels", "embedding_size", "hidden_sizes", "filters", "num_labels",
)  # fmt: skip
DEPTHS = ("num_hidden_layers", "depths")
LIMITS = [  # of the memory of a container, by versions 2 and 1 of control groups
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
]
LARGEST, DEEPEST = 2**31, 10_000
AGAIN = "possible: copy or download the model again, or take another one"
CODE = (
    "config.json asks for Python code that comes with the model (auto_map); possible:"
    " model.trust_remote_code=true, which runs that code, once you have read it"
)
EXPLAINED = (ValueError, OSError)  # whose texts say enough without the name of the error


def read_config(name: str | Path, label: str = "", **options: Any) -> PretrainedConfig:
    """The configuration of a checkpoint or a saved model, with sizes that a network can have.

    `label` is what the person named, the place itself by default. Raises ConfigError, as all below.
    """
    from transformers import AutoConfig

    from ftrun.models.small import register

    register()
    path = Path(name) / CONFIG
    if isinstance(name, Path) or path.parent.is_dir():
        refuse_unknown(path, stored(path))
    with loading(label or name, name, CONFIG):
        config = AutoConfig.from_pretrained(name, **options)
        refuse_sizes(config, path)
    return config


@contextmanager
def loading(label: str | Path, place: str | Path, file: str) -> Iterator[None]:
    """ConfigError for whatever is raised over the files of a model, OutOfMemory where memory is exhausted.

    It names the damaged file, and `file` where none is damaged in itself. To be put around calls of libraries
    only: a bug inside would be called a damaged file.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:  # tokenizers' panics are no Exception, and its errors nothing narrower
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if out_of_memory(error):
            raise OutOfMemory(
                f"out of memory while {label} is loaded ({told(error)}); possible: a smaller model,"
                " fewer processes beside this one"
            ) from error
        raise ConfigError(f"{label} cannot be loaded: {why(Path(place), file, error)}") from error


@contextmanager
def computing(named: str | Path, place: str | Path, alone: Callable[[], Any]) -> Iterator[None]:
    """ConfigError where something fails inside because the network cannot compute, as its files make it.

    `alone` has the network compute an example and is called after a failure only. Where it succeeds, the
    failure is a bug, and is raised as it is.
    """
    try:
        yield
    except Exception as error:  # whatever a network of a damaged configuration raises
        if isinstance(error, UserError) or out_of_memory(error) or disk_full(error):
            raise
        try:
            alone()
        except Exception as cause:
            raise ConfigError(f"{named} cannot compute: {why(Path(place), CONFIG, cause)}") from error
        raise


def why(place: Path, file: str, error: BaseException) -> str:
    """The file to blame, what is wrong with it, and what is possible."""
    if "trust_remote_code" in str(error):
        return CODE
    return f"{fault_in(place) or f'{file}: {reason_of(error, place / file)}'}; {AGAIN}"


def reason_of(error: BaseException, path: Path) -> str:
    """What a library says; of a key that it misses, what in the file asked for it."""
    if isinstance(error, KeyError) and error.args and path.is_file():
        found, key = stored(path), error.args[0]
        asked = [name for name, value in found.items() if isinstance(value, str) and value == key]
        return f"{asked[0]}={key!r} is unknown to transformers" if asked else f"it has no {key!r:.60}"
    return told(error) if isinstance(error, EXPLAINED) else f"{type(error).__name__}: {told(error)}"


def fault_in(directory: Path) -> str | None:
    """The first file that is damaged whatever reads it, and how; None where there is none."""
    from safetensors import SafetensorError, safe_open

    for path in [*sorted(directory.glob("*")), *sorted(directory.glob("?_*/*"))]:
        try:
            if path.suffix == ".json" or path.name in ("vocab.txt", "merges.txt"):
                text = path.read_text(encoding="utf-8")
                _ = json.loads(text) if path.suffix == ".json" else text
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt"):
                    pass
        except (ValueError, RecursionError, OSError, SafetensorError) as error:
            return f"{path.relative_to(directory)}: {told(error)}"
    return None


def stored(path: Path, kind: type = dict) -> Any:
    """The content of a JSON file that holds an object, or another `kind`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing; {AGAIN}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: {told(error)}; {AGAIN}") from None
    if not isinstance(found, kind):
        wanted = "an object" if kind is dict else "a list"
        raise ConfigError(f"{path} is damaged: it holds {told(ValueError(found), 40)}, not {wanted}; {AGAIN}")
    return found


def refuse_unknown(path: Path, config: dict[str, Any]) -> None:
    """ConfigError for an architecture that neither transformers nor code of the model has."""
    from transformers import CONFIG_MAPPING, __version__

    kind, code = config.get("model_type"), config.get("auto_map")
    if "pretrained_cfg" in config or isinstance(code, dict) and "AutoConfig" in code:  # timm's have no type
        return
    if kind is None:
        raise ConfigError(
            f'{path} has no model_type, which names the architecture; possible: add it, as "model_type":'
            ' "bert"'
        )
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        close = near(kind, CONFIG_MAPPING.keys()) if isinstance(kind, str) else ""
        raise ConfigError(
            f"{path}: model_type={kind!r:.60} is no architecture of transformers {__version__}{close};"
            " possible: a newer transformers, or another model"
        )


def refuse_sizes(config: PretrainedConfig, path: Path) -> None:
    """ConfigError for a size that is no number of layers, heads, channels and so on, or an absurd one."""
    for name in (*SIZES, *DEPTHS):
        most = DEEPEST if name in DEPTHS else LARGEST
        found = getattr(config, name, None)
        for value in found if isinstance(found, list | tuple) else [found]:
            if value is not None and not (type(value) is int and 0 < value <= most):
                own = getattr(config, "attribute_map", {}).get(name, name)
                raise ConfigError(f"{path}: {own}={told(ValueError(found), 60)}; possible: 1 to {most:,}")
    for name, possible in OURS.items():
        if (value := getattr(config, name, None)) not in (None, *possible):
            raise ConfigError(f"{path}: {name}={value!r:.60}; possible: {', '.join(possible)}")


def refuse_larger_than_memory(name: str, net: nn.Module, bits: int = 32) -> None:
    """OutOfMemory where the weights in fp32, or in fewer `bits`, exceed the machine's memory."""
    count, whole = sum(parameter.numel() for parameter in net.parameters()), memory_of_machine()
    needed = count * bits // 8
    if whole is not None and needed > whole:
        half = (
            ", train.frozen_dtype=bf16 with a strategy that freezes"
            if bits == 32 and needed <= 2 * whole
            else ""
        )
        raise OutOfMemory(
            f"model.name={name} has weights of {size_in_words(needed)} in {'fp32' if bits == 32 else 'bf16'},"
            f" and this machine has {size_in_words(whole)} of memory; possible: a smaller model{half}"
        )


def memory_of_machine() -> int | None:
    """Bytes, by POSIX, or fewer where the control group of a container allows fewer; None elsewhere."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in LIMITS:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # there is none, or it says max
            continue
    return min(found)
