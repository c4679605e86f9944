"""A pooled network on disk as sentence-transformers has it: the backbone, its pooling, and the head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from ftrun.models.files.reading import loading, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from ftrun.models.heads import Pooled

MODULES, LIMIT = "modules.json", "sentence_bert_config.json"
POOLING, DENSE = "1_Pooling", "2_Dense"
WEIGHTS = "model.safetensors"
FORMER_HEAD = "head.safetensors"  # where the head lay before this layout
KINDS = {"": "Transformer", POOLING: "Pooling", DENSE: "Dense"}
WAYS = {  # of pooling, and how every version of sentence-transformers reads them
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def write(net: Pooled, directory: Path, low_rank: bool = False) -> None:
    """All but the backbone: which modules there are, the pooling, the head, and the longest text in tokens.

    `SentenceTransformer(directory).encode(texts)` then gives the logits, (texts, outputs). Beside a LoRA
    there is no list of modules: sentence-transformers would look for the configuration of its base elsewhere.
    """
    width, outputs = net.classifier.in_features, net.classifier.out_features
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(KINDS.items())
    ]
    pooling = {"word_embedding_dimension": width}
    pooling |= {name: way == net.pooling for way, name in WAYS.items()}
    dense = {"in_features": width, "out_features": outputs, "bias": True}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    if not low_rank:
        _write(directory / MODULES, modules)
    _write(directory / LIMIT, {"max_seq_length": net.max_length, "do_lower_case": False})
    _write(directory / POOLING / "config.json", pooling)
    _write(directory / DENSE / "config.json", dense)
    state = net.classifier.state_dict().items()
    head = {f"linear.{name}": value.detach().cpu().contiguous() for name, value in state}
    save_file(head, directory / DENSE / WEIGHTS, metadata={"format": "pt"})


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_head(net: Pooled, directory: Path) -> None:
    """Give a network the head that was saved with it, also in the form of older versions."""
    if (directory / DENSE / WEIGHTS).is_file():
        tensors = load_file(directory / DENSE / WEIGHTS)
        tensors = {name.removeprefix("linear."): value for name, value in tensors.items()}
    else:
        tensors = load_file(directory / FORMER_HEAD)
    net.classifier.load_state_dict(tensors)


def longest(directory: Path) -> int | None:
    """The longest text in tokens that a saved network was trained on; None where nothing says."""
    path = directory / LIMIT
    return stored(path).get("max_seq_length") if path.is_file() else None


def stated(file: Callable[[str], Path | None]) -> tuple[str, str] | None:
    """How sentence-transformers pools a checkpoint and the file that says so; None where nothing does.

    One of its names of ways, several joined by + where they stand side by side. `file` gives the path of one
    of the checkpoint's files, None where it has none like it. Raises ConfigError for a damaged file.
    """
    folder, listed = POOLING, file(MODULES)
    if listed is not None:
        with loading(listed, listed.parent, MODULES):
            modules = [each for each in stored(listed, list) if each["type"].rpartition(".")[2] == "Pooling"]
            folder = str(modules[0]["path"]) if modules else ""
        if not modules:
            return None
    name = f"{folder}/config.json"
    path = file(name)
    if path is None:
        return None
    with loading(path, path.parent, name):
        return _way(stored(path)), name


def _way(config: dict[str, Any]) -> str:
    """The way of pooling in a configuration of today's form, or one with a truth value for each way."""
    found = config.get("pooling_mode") or [way for way, name in WAYS.items() if config.get(name)] or "mean"
    return found if isinstance(found, str) else "+".join(found)
