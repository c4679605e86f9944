"""What lies beside a network made from runs: its README.md, and the settings that answer with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ftrun import __version__
from ftrun.experiments.lora.equivalence import Agreement, as_markdown
from ftrun.models import sentences
from ftrun.models.heads import Pooled
from ftrun.runs.find import ORIGIN

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings

CARD = """\
---
library_name: {library}
{base}tags: [ftrun, {tag}]
---

# {title}

{story}

{table}

on {rows}.

```python
{code}
```

Or `ftrun predict DIR --input FILE --output FILE`. Made by ftrun {version}; the settings are in `{origin}`.
"""


@dataclass
class Source:
    """A finished LoRA to be folded: where it lies, and the settings of the run whose head it has."""

    place: Path
    settings: Settings
    title: str
    story: str


def write_origin(place: Path, settings: Settings) -> None:
    """The run's settings, with which `ftrun predict` and `evaluate` read the directory."""
    from omegaconf import OmegaConf

    (place / ORIGIN).write_text(OmegaConf.to_yaml(settings.raw), encoding="utf-8")


def write_card(place: Path, source: Source, found: list[Agreement], rows: str, tag: str, code: str) -> None:
    """README.md: what the directory is, how that was proved, and how to load it."""
    text = CARD.format(
        library=library(source.settings, tag),
        base=on_hub(source.settings.model.name),
        tag=tag,
        title=source.title,
        story=source.story,
        table=as_markdown(found),
        rows=rows,
        code=code,
        version=__version__,
        origin=ORIGIN,
    )
    (place / "README.md").write_text(text, encoding="utf-8")


def on_hub(name: str) -> str:
    """The line of the card that names the base, where that is a name others know too."""
    return "" if name.startswith("embedded:") or Path(name).is_dir() else f"base_model: {name}\n"


def library(settings: Settings, tag: str) -> str:
    """Who loads the directory."""
    if settings.model.pooling != "head":
        return "sentence-transformers"
    return "transformers" if tag == "merged" else "peft"


def plain_code(net: nn.Module, settings: Settings) -> str:
    """How the network is loaded: by transformers alone, a pooled one by sentence-transformers."""
    if isinstance(net, Pooled):
        return sentences.code(net, low_rank=False)
    name = settings.task.spec(None).auto_class
    return f'from transformers import {name}\n\nnet = {name}.from_pretrained("DIR")'
