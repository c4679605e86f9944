"""How plain libraries use a saved network: who reads it, for what, and in which lines of Python."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftrun.models.architecture import IMAGES, ONE_PER_TEXT, SPANS, WORDS
from ftrun.models.files.reading import CONFIG, stored
from ftrun.models.image_processor import PROCESSOR
from ftrun.models.saved import lines
from ftrun.models.sentences import longest
from ftrun.runs.artifacts import BASE, BOTTLENECKS, LORA, PROJECTION

PIPELINES = {  # of transformers, and of the Hub
    ONE_PER_TEXT: "text-classification",
    WORDS: "token-classification",
    SPANS: "question-answering",
    IMAGES: "image-classification",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForPreTraining": "fill-mask",
}
FEATURES = "image-feature-extraction"
OWN = "ftrun_"  # begins the names of this package's own architectures
THRESHOLD = 0.5  # of a label's probability, where a task has none of its own
OPTIONS = {WORDS: ', aggregation_strategy="first"'}


@dataclass
class Usage:
    """Who reads a saved network, what it is for in the words of the Hub, and the lines that use it."""

    library: str
    pipeline: str
    code: str  # with DIR for the directory


def usage_of(directory: Path, auto_class: str, task: dict[str, Any]) -> Usage:
    """How the network in a directory is used; `task` are the settings of its task."""
    config = stored(directory / CONFIG)
    features = (directory / PROJECTION).is_file()
    pipeline = FEATURES if features else PIPELINES[auto_class]
    imports, setup, model = opening(directory, config)
    pooled = "ftrun_pooling" in config and auto_class == ONE_PER_TEXT
    if not pooled and model == lines.WHOLE[2] and (features or no_pipeline(directory, auto_class, config)):
        setup += lines.OPENED
    values = values_of(directory, auto_class, config, task)
    parts = {"imports": imports, "setup": setup, "model": model, "pipeline": pipeline}
    parts = {name: part.format(**values) for name, part in parts.items()}
    code = template(directory, auto_class, config).format(**values, **parts)
    return Usage(library_of(directory, config), pipeline, code)


def opening(directory: Path, config: dict[str, Any]) -> tuple[str, str, str]:
    """How the network is opened, as `lines` has it."""
    if (directory / BOTTLENECKS).is_file():
        return lines.ADAPTERS
    if config["model_type"].startswith(OWN):
        return lines.OWN
    if shares(directory):
        return lines.SHARED
    alone = (directory / LORA).is_file() and not (directory / BASE).is_dir()
    return lines.BESIDE if alone else lines.WHOLE


def no_pipeline(directory: Path, auto_class: str, config: dict[str, Any]) -> bool:
    """Whether transformers has no pipeline that gives this network what it reads."""
    if auto_class == IMAGES:
        return not (directory / PROCESSOR).is_file() or config.get("num_channels", 3) != 3
    return auto_class == SPANS


def template(directory: Path, auto_class: str, config: dict[str, Any]) -> str:
    """The lines, with names in braces for what differs."""
    low_rank, own = (directory / LORA).is_file(), (directory / BOTTLENECKS).is_file()
    problem = str(config.get("problem_type"))
    if "ftrun_pooling" in config and auto_class == ONE_PER_TEXT:
        beside = lines.SENTENCES_SHARED if shares(directory) else lines.SENTENCES_BESIDE
        text = lines.POOLED_ADAPTERS if own else beside if low_rank else lines.SENTENCES
        return text.replace("{labels_of}", lines.LABELS_OF.get(problem, lines.LABEL_OF))
    if (directory / PROJECTION).is_file():
        return lines.FEATURES
    if no_pipeline(directory, auto_class, config):
        if auto_class == SPANS:
            return lines.SPAN
        return lines.GREY if (directory / PROCESSOR).is_file() else lines.PIXELS
    kind = PIPELINES[auto_class]
    answer = lines.ANSWERS.get(kind) or lines.OF_TEXT.get(problem, lines.LABELS)
    return lines.PIPELINE.replace("{answer}", answer)


def values_of(
    directory: Path, auto_class: str, config: dict[str, Any], task: dict[str, Any]
) -> dict[str, Any]:
    """What the names in the lines stand for."""
    threshold = task.get("threshold") or THRESHOLD
    pair = isinstance(task.get("text"), list)
    return {
        "auto_class": auto_class,
        "base": f"DIR/{BASE}" if (directory / BASE).is_dir() else base_of(directory),
        "reader": "image_processor" if auto_class == IMAGES else "tokenizer",
        "options": OPTIONS.get(auto_class, ""),
        "text": lines.PAIR if pair else lines.TEXT,
        "length": task.get("max_length"),
        "longest": longest(directory),
        "further": (task.get("max_answer_length") or 1) - 1,
        "threshold": threshold,
        "cut": math.log(threshold / (1 - threshold)),
        "begin": begin_of(directory),
        "labels": len(config.get("id2label") or ()),
        "channels": config.get("num_channels", 3),
        "mode": "L" if config.get("num_channels", 3) == 1 else "RGB",
        "size": config.get("image_size"),
    }


def shares(directory: Path) -> bool:
    """Whether layers by peft in a directory share matrices, so that peft alone puts them beside a base."""
    return (directory / LORA).is_file() and stored(directory / LORA).get("peft_type") == "VERA"


def base_of(directory: Path) -> str | None:
    """The name of the checkpoint that adapters belong to; None where there are none."""
    for file, name in ((LORA, "base_model_name_or_path"), (BOTTLENECKS, "base_model")):
        if (directory / file).is_file():
            return str(stored(directory / file)[name])
    return None


def begin_of(directory: Path) -> str:
    """The token that begins a document, as its tokenizer writes it."""
    path = directory / "tokenizer_config.json"
    own = stored(path) if path.is_file() else {}
    token = own.get("bos_token") or own.get("eos_token") or ""
    return str(token["content"] if isinstance(token, dict) else token)


def library_of(directory: Path, config: dict[str, Any]) -> str:
    """Who reads the network."""
    if (directory / BOTTLENECKS).is_file() or config["model_type"].startswith(OWN):
        return "ftrun"
    if "ftrun_pooling" in config:
        return "sentence-transformers"
    return "peft" if (directory / LORA).is_file() else "transformers"
