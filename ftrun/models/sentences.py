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
SCORES = "scores = logits[:, 0] * config.target_scale + config.target_mean"
LABELS = "labels = [[config.id2label[i] for i in (row > 0).nonzero()[0]] for row in logits]  # 0 is one half"
LABEL = "labels = [config.id2label[i] for i in logits.argmax(1)]"
ANSWERS = {  # by the configuration's problem_type: what is found in a text, and how the logits say it
    "regression": ("A score", SCORES),
    "multi_label_classification": ("The labels", LABELS),
}
PLAIN = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("DIR")
config = model[0].auto_model.config
"""
WITH_PEFT = """\
from peft import PeftConfig
from sentence_transformers import SentenceTransformer, models
from transformers import AutoConfig

base = PeftConfig.from_pretrained("DIR").base_model_name_or_path
network = models.Transformer(base, max_seq_length={length})
network.auto_model.load_adapter("DIR")
head = models.Pooling.load("DIR/1_Pooling"), models.Dense.load("DIR/2_Dense")
model = SentenceTransformer(modules=[network, *head])
config = AutoConfig.from_pretrained("DIR")
"""
VECTORS = """\
`SentenceTransformer(modules=[model[0], model[1]])` gives the sentence vectors themselves, and
`transformers.AutoModel.from_pretrained` the network below them. A pooler that is reported as missing has no
part in it.
"""
MERGE = """\
It holds a LoRA beside the weights of `base`, which are loaded from there. `ftrun merge RUN` makes one network
of both, which `SentenceTransformer("DIR")` loads.
"""
CARD = """\
---
library_name: sentence-transformers
tags:
- ftrun
---

# {what} of a text, in one linear layer on its {pooled}

It loads without ftrun, by [sentence-transformers](https://sbert.net):

```python
{code}
```

{more}"""


def write(net: Pooled, directory: Path, low_rank: bool = False) -> None:
    """All but the backbone: which modules there are, the pooling, the head, and the longest text in tokens.

    `SentenceTransformer(directory).encode(texts)` then gives the logits, (texts, outputs). Beside a LoRA, to
    which config.json bars the way of sentence-transformers, there is no list of modules.
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


def code(net: Pooled, low_rank: bool) -> str:
    """Python that loads a saved network and answers `texts`, without ftrun."""
    _, answer = ANSWERS.get(str(net.config.problem_type), ("", LABEL))
    load = WITH_PEFT.format(length=net.max_length) if low_rank else PLAIN
    return f"{load}logits = model.encode(texts)  # (texts, {net.classifier.out_features})\n{answer}"


def card(net: Pooled, low_rank: bool) -> str:
    """README.md of a saved network; `low_rank` where it holds a LoRA, whose base is loaded from elsewhere."""
    what, _ = ANSWERS.get(str(net.config.problem_type), ("The label", ""))
    pooled = "mean over all tokens" if net.pooling == "mean" else "first token"
    return CARD.format(
        what=what, pooled=pooled, more=MERGE if low_rank else VECTORS, code=code(net, low_rank)
    )
